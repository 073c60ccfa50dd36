"""The classifiers as steps: what the panel, the command line and `train_classifier` offer.

Each returns an unfitted estimator; scikit-learn and torch are imported only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..denoise.weights import FILE_FILTER
from ..parameters import param
from ..steps import get_step, step

if TYPE_CHECKING:
    from .calibrated_cnn import CalibratedCNN
    from .classical import ForestClassifier, NeighboursClassifier, SVMClassifier
    from .integrated import IntegratedClassifier

_Epochs = Annotated[int, param("At most so many passes over the training crops.", ge=1, le=1000)]
_BatchSize = Annotated[int, param("Crops per step.", ge=2, le=4096)]
_LearningRate = Annotated[float, param("Peak of the one-cycle schedule.", ge=1e-6, le=1.0, step=0.0005)]
_Patience = Annotated[
    int,
    param(
        "Stop after so many epochs without a better validation loss, but not in the first half.",
        unit="epochs",
        ge=1,
        le=1000,
    ),
]
_Features = Annotated[
    Literal["pixels", "texture", "embedding", "texture+embedding", "fibres"],
    param(
        "What it classifies by: the pixels; intensity, texture, shape and rings around the middle; what a CNN sees "
        "that is trained first; or the descriptors of fibres."
    ),
]
_PixelSide = Annotated[
    int | None,
    param(
        "Side to which crops are resized for pixels and embedding; nothing = their own size, at most 64.",
        unit="px",
        ge=2,
        le=512,
    ),
]
_Balance = Annotated[
    Literal["weights", "sampling", "none"],
    param("Rare classes: they weigh more, are drawn more often in training, or nothing is done."),
]
_Calibration = Annotated[
    Literal["none", "sigmoid", "isotonic"],
    param("Make probabilities mean what they say, by folds of the training crops; isotonic needs many crops."),
]
_Temperature = Annotated[
    Literal["none", "temperature"],
    param("Make probabilities mean what they say, by 15 % of the training crops that are then not learnt from."),
]
_Width = Annotated[int, param("Maps of the first stage. 16 takes a third of the time of 32.", ge=4, le=256, step=4)]
_Augmentation = Annotated[
    Literal["light", "strong"],
    param(
        "Light: training crops turned, mirrored, varied in brightness. Strong: also turned by any angle, zoomed, "
        "shifted, and stained differently."
    ),
]
_Views = Annotated[
    int | None,
    param(
        "Predictions are the mean over so many of the 8 turns and mirror images; nothing = 8 up to 64 px, else 1.",
        ge=1,
        le=8,
    ),
]
_Validation = Annotated[
    float,
    param(
        "Part of the training crops that early stopping watches; 0 = learn from all, for all epochs.",
        ge=0,
        le=0.5,
        step=0.05,
    ),
]
_Augment = Annotated[
    Literal["none", "turns", "turns+noise"],
    param("Add turned and mirrored copies of the training crops, seven of each; with noise up to 20 grey levels."),
]


@step(
    "cnn",
    kind="classifier",
    title="CNN",
    reference="He et al., Deep residual learning for image recognition, CVPR (2016), doi:10.1109/CVPR.2016.90",
)
def cnn(
    seed: int,
    *,
    input_size: Annotated[
        int | None,
        param(
            "Side to which crops are resized; nothing = about their own size, at most 224.",
            unit="px",
            ge=16,
            le=512,
            step=16,
        ),
    ] = None,
    epochs: _Epochs = 40,
    batch_size: _BatchSize = 64,
    learning_rate: _LearningRate = 0.003,
    patience: _Patience = 10,
    balance: _Balance = "weights",
    calibration: _Temperature = "none",
    width: _Width = 32,
    augmentation: _Augmentation = "strong",
    views: _Views = None,
    validation: _Validation = 0.15,
) -> CalibratedCNN:
    """Small residual network trained from scratch; the one that Grad-CAM explains."""
    from .calibrated_cnn import CalibratedCNN

    return CalibratedCNN(
        input_size=input_size or 224,  # a training puts the crops' own size there
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        balance=balance,
        calibration=calibration,
        random_state=seed,
        width=width,
        augmentation=augmentation,
        views=views,
        validation=validation,
    )


def _denoiser_record(samples: int, *, denoiser: str, denoiser_weights: str, **_: Any) -> dict[str, Any]:
    record = get_step(denoiser, "denoise").record
    return {} if record is None else record(samples, weights=denoiser_weights)


@step(
    "integrated",
    kind="classifier",
    title="Denoiser + CNN, end to end",
    reference="Liu et al., When image denoising meets high-level vision tasks, IJCAI (2018)",
    record=_denoiser_record,
)
def integrated(
    seed: int,
    *,
    denoiser: Annotated[
        Literal["irunet", "dncnn", "unet"], param("Network to start from; IRUNet is by far the fastest.")
    ] = "irunet",
    denoiser_weights: Annotated[
        str, param("auto = shipped with this program; or the name of others; or a file.", file=FILE_FILTER)
    ] = "auto",
    denoiser_learning_rate: Annotated[
        float, param("Part of the learning rate that the denoiser gets; 0 = it stays as it is.", ge=0, le=1, step=0.05)
    ] = 0.1,
    input_size: Annotated[
        int,
        param("Side to which crops are resized, before they are denoised.", unit="px", ge=16, le=512, step=16),
    ] = 64,
    epochs: _Epochs = 40,
    batch_size: _BatchSize = 32,
    learning_rate: _LearningRate = 0.001,
    patience: _Patience = 10,
    balance: _Balance = "weights",
    calibration: _Temperature = "none",
    width: _Width = 32,
    augmentation: _Augmentation = "strong",
    views: _Views = None,
    validation: _Validation = 0.15,
) -> IntegratedClassifier:
    """One of our denoising networks joined before the CNN, fine-tuned together with it."""
    from .integrated import IntegratedClassifier

    return IntegratedClassifier(
        denoiser=denoiser,
        denoiser_weights=denoiser_weights,
        denoiser_learning_rate=denoiser_learning_rate,
        input_size=input_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        balance=balance,
        calibration=calibration,
        random_state=seed,
        width=width,
        augmentation=augmentation,
        views=views,
        validation=validation,
    )


@step(
    "svm",
    kind="classifier",
    title="SVM",
    reference="Cortes and Vapnik, Support-vector networks, Machine Learning 20 (1995); scikit-learn SVC",
)
def svm(
    seed: int,
    *,
    features: _Features = "pixels",
    input_size: _PixelSide = None,
    C: Annotated[float, param("Cost of a misclassified crop.", ge=1e-4, le=1e4, step=0.5)] = 1.0,
    kernel: Annotated[Literal["rbf", "linear"], param("Kernel.")] = "rbf",
    balance: _Balance = "weights",
    calibration: _Calibration = "sigmoid",
    augment: _Augment = "none",
) -> SVMClassifier:
    """Support vector machine on pixels or other features."""
    from .classical import SVMClassifier

    return SVMClassifier(
        features=features,
        input_size=input_size,
        C=C,
        kernel=kernel,
        balance=balance,
        calibration=calibration,
        augment=augment,
        random_state=seed,
    )


@step(
    "random_forest",
    kind="classifier",
    title="Random forest",
    reference="Breiman, Random forests, Machine Learning 45 (2001); scikit-learn RandomForestClassifier",
)
def random_forest(
    seed: int,
    *,
    features: _Features = "pixels",
    input_size: _PixelSide = None,
    trees: Annotated[
        int | None, param("Number of trees; nothing = 100 with fibres, else 300.", ge=1, le=5000, step=50)
    ] = None,
    balance: _Balance = "weights",
    calibration: _Calibration = "none",
    augment: _Augment = "none",
) -> ForestClassifier:
    """Random forest on pixels or other features."""
    from .classical import ForestClassifier

    return ForestClassifier(
        features=features,
        input_size=input_size,
        trees=trees,
        balance=balance,
        calibration=calibration,
        augment=augment,
        random_state=seed,
    )


@step(
    "knn",
    kind="classifier",
    title="K nearest neighbours",
    reference="Cover and Hart, Nearest neighbor pattern classification, IEEE TIT 13 (1967); scikit-learn",
)
def knn(
    seed: int,
    *,
    features: _Features = "pixels",
    input_size: _PixelSide = None,
    neighbours: Annotated[int, param("How many vote; nearer ones count more.", ge=1, le=1000)] = 5,
    balance: _Balance = "weights",
    calibration: _Calibration = "none",
    augment: _Augment = "none",
) -> NeighboursClassifier:
    """K nearest neighbours on pixels or other features."""
    from .classical import NeighboursClassifier

    return NeighboursClassifier(
        features=features,
        input_size=input_size,
        neighbours=neighbours,
        balance=balance,
        calibration=calibration,
        augment=augment,
        random_state=seed,
    )
