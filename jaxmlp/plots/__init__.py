"""Pictures as the bytes of PNG files, of training, predictions, columns, images, Taylor tests. Needs the extra `cli`.

Each module also has the same picture as a matplotlib figure: `training.draw_curves`, `importance.draw_importance_bars`,
`predictions.draw_calibration`, `predictions.draw_predicted_against_true`, `images.draw_contact_sheet`,
`taylor.draw_taylor`.
"""

from jaxmlp.plots.images import contact_sheet
from jaxmlp.plots.importance import importance_bars
from jaxmlp.plots.predictions import calibration, predicted_against_true
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.plots.training import curves

__all__ = ["calibration", "contact_sheet", "curves", "importance_bars", "predicted_against_true", "taylor_plot"]
