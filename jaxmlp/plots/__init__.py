"""Pictures as the bytes of PNG files: training curves, sheets of images, Taylor tests. Needs the extra `cli`."""

from jaxmlp.plots.images import contact_sheet
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.plots.training import curves

__all__ = ["contact_sheet", "curves", "taylor_plot"]
