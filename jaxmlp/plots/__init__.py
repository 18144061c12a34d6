"""Pictures as the bytes of PNG files: training, predictions, columns, images, Taylor tests, privacy audits.

Needs the extra `cli`.

Each module also has the same picture as a matplotlib figure: `training.draw_curves`, `importance.draw_importance_bars`,
`predictions.draw_calibration`, `predictions.draw_predicted_against_true`, `images.draw_contact_sheet`,
`taylor.draw_taylor`, `auditing.draw_audit_bounds`, `privacy.draw_score_against_epsilon`.
"""

from jaxmlp.plots.auditing import audit_bounds
from jaxmlp.plots.images import contact_sheet
from jaxmlp.plots.importance import importance_bars
from jaxmlp.plots.predictions import calibration, predicted_against_true
from jaxmlp.plots.privacy import score_against_epsilon
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.plots.training import curves

__all__ = [
    "audit_bounds",
    "calibration",
    "contact_sheet",
    "curves",
    "importance_bars",
    "predicted_against_true",
    "score_against_epsilon",
    "taylor_plot",
]
