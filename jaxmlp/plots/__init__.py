"""Pictures as the bytes of PNG files: training, predictions, sheets of images, Taylor tests. Needs the extra `cli`.

Each module also has the same picture as a matplotlib figure: `training.draw_curves`, `images.draw_contact_sheet`,
`predictions.draw_calibration`, `predictions.draw_predicted_against_true`, `taylor.draw_taylor`.
"""

from jaxmlp.plots.images import contact_sheet
from jaxmlp.plots.predictions import calibration, predicted_against_true
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.plots.training import curves

__all__ = ["calibration", "contact_sheet", "curves", "predicted_against_true", "taylor_plot"]
