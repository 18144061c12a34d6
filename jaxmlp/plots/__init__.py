"""Pictures as the bytes of PNG files: training curves, sheets of images, Taylor tests. Needs the extra `cli`.

Each module also has the same picture as a matplotlib figure: `training.draw_curves`, `images.draw_contact_sheet`,
`taylor.draw_taylor`.
"""

from jaxmlp.plots.images import contact_sheet
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.plots.training import curves

__all__ = ["contact_sheet", "curves", "taylor_plot"]
