"""Training with Keras: ordinary fitting of classifiers, and fine-tuning of shared weights."""

from cxcompress.training.fine_tuning import FineTuned, fine_tune
from cxcompress.training.fitting import PartBatches, fit_classifier
from cxcompress.training.shared_values import SharedWeightsTrainer

__all__ = ["FineTuned", "PartBatches", "SharedWeightsTrainer", "fine_tune", "fit_classifier"]
