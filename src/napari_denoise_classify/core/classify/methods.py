"""The classifiers as steps: what the panel, the command line and `train_classifier` offer.

Each returns an unfitted estimator; scikit-learn and torch are imported only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..steps import param, step

if TYPE_CHECKING:
    from .cnn import CNNClassifier

_PixelSide = Annotated[
    int | None,
    param("Side to which crops are resized; nothing = their own size, at most 64.", unit="px", ge=2, le=512),
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
        int,
        param(
            "Side to which crops are resized. 64 is much faster and enough for small cells.",
            unit="px",
            ge=16,
            le=512,
            step=16,
        ),
    ] = 224,
    epochs: Annotated[int, param("At most so many passes over the training crops.", ge=1, le=1000)] = 40,
    batch_size: Annotated[int, param("Crops per step.", ge=2, le=4096)] = 128,
    learning_rate: Annotated[float, param("Peak of the one-cycle schedule.", ge=1e-6, le=1.0, step=0.0005)] = 0.001,
    patience: Annotated[
        int,
        param(
            "Stop after so many epochs without a better validation loss, but not in the first half.",
            unit="epochs",
            ge=1,
            le=1000,
        ),
    ] = 10,
) -> CNNClassifier:
    """Small residual network trained from scratch; the one that Grad-CAM explains."""
    from .cnn import CNNClassifier

    return CNNClassifier(
        input_size=input_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        random_state=seed,
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
    input_size: _PixelSide = None,
    C: Annotated[float, param("Cost of a misclassified crop.", ge=1e-4, le=1e4, step=0.5)] = 1.0,
    kernel: Annotated[Literal["rbf", "linear"], param("Kernel.")] = "rbf",
) -> Any:
    """Support vector machine on flattened pixels."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from .estimators import CalibratedSVM, PixelFeatures

    return Pipeline(
        [
            ("pixels", PixelFeatures(input_size)),
            ("scale", StandardScaler()),
            ("classify", CalibratedSVM(C=C, kernel=kernel, random_state=seed)),
        ]
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
    input_size: _PixelSide = None,
    trees: Annotated[int, param("Number of trees.", ge=1, le=5000, step=50)] = 300,
) -> Any:
    """Random forest on flattened pixels."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline

    from .estimators import PixelFeatures

    forest = RandomForestClassifier(n_estimators=trees, class_weight="balanced_subsample", random_state=seed, n_jobs=-1)
    return Pipeline([("pixels", PixelFeatures(input_size)), ("classify", forest)])


@step(
    "knn",
    kind="classifier",
    title="K nearest neighbours",
    reference="Cover and Hart, Nearest neighbor pattern classification, IEEE TIT 13 (1967); scikit-learn",
)
def knn(
    seed: int,
    *,
    input_size: _PixelSide = None,
    neighbours: Annotated[int, param("How many vote; nearer ones count more.", ge=1, le=1000)] = 5,
) -> Any:
    """K nearest neighbours on flattened pixels."""
    from sklearn.pipeline import Pipeline

    from .estimators import BalancedKNN, PixelFeatures

    return Pipeline(
        [
            ("pixels", PixelFeatures(input_size)),
            ("classify", BalancedKNN(n_neighbors=neighbours, weights="distance", algorithm="brute", n_jobs=-1)),
        ]
    )
