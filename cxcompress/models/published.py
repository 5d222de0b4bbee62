"""What was published of the 16 networks of CheXtransfer: family, parameters, ImageNet accuracy.

    PUBLISHED["densenet121"].top1                  # 74.434 percent of ImageNet's validation images
    PUBLISHED["densenet121"].parameters            # 7,978,856, with a head of 1000 classes

Accuracies are those of weights that anyone can fetch and judge again, one crop, and all but one
come from the same table, so that they can be compared; papers report others. Ke et al. (2021) took
theirs from the libraries of their time, which differ by a few tenths, and more for EfficientNet.
"""

from __future__ import annotations

from dataclasses import dataclass

TORCHVISION = ("torchvision 0.12, https://pytorch.org/vision/0.12/models.html, table of "
               "single-crop accuracies, weights IMAGENET1K_V1")
TORCHVISION_EFFICIENTNET = ("torchvision, torchvision/models/efficientnet.py, acc@1 of the "
                            "weights IMAGENET1K_V1 (ported from timm), at each network's own size")
CADENE = ("https://github.com/Cadene/pretrained-models.pytorch, README, table of accuracies on the "
          "validation set, 'our porting' of the weights of TensorFlow-Slim, 299 pixels")


@dataclass(frozen=True)
class Published:
    """One network.

    Args:
        family: Networks of one family differ in size alone.
        parameters: Trainable ones with 1000 classes and 3 channels, of the reference
            implementation (torchvision; Cadene's for Inception-v4).
        top1: Accuracy on ImageNet's validation images, percent.
        source: Of `top1`.
        note: Why ours has another number of parameters, where it has.
    """

    family: str
    parameters: int
    top1: float
    source: str = TORCHVISION
    note: str = ""


PUBLISHED: dict[str, Published] = {
    "densenet121": Published("DenseNet", 7_978_856, 74.434),
    "densenet169": Published("DenseNet", 14_149_480, 75.600),
    "densenet201": Published("DenseNet", 20_013_928, 76.896),
    "efficientnetb0": Published("EfficientNet", 5_288_548, 77.692, TORCHVISION_EFFICIENTNET),
    "efficientnetb1": Published("EfficientNet", 7_794_184, 78.642, TORCHVISION_EFFICIENTNET),
    "efficientnetb2": Published("EfficientNet", 9_109_994, 80.608, TORCHVISION_EFFICIENTNET),
    "efficientnetb3": Published("EfficientNet", 12_233_232, 82.008, TORCHVISION_EFFICIENTNET),
    "inceptionv3": Published(
        "Inception", 27_161_264, 77.294,
        note="published with its auxiliary head (23,834,568 without it) and 17,216 scales of "
             "BatchNormalization that Keras' has not"),
    "inceptionv4": Published("Inception", 42_679_816, 80.062, CADENE),
    "mnasnet": Published("MNASNet", 4_383_312, 73.456),
    "mobilenetv2": Published("MobileNet", 3_504_872, 71.878),
    "mobilenetv3": Published(
        "MobileNet", 5_483_032, 74.042,
        note="published with a hidden layer of 1,280 units in the head, which ours has not"),
    "resnet18": Published("ResNet", 11_689_512, 69.758),
    "resnet34": Published("ResNet", 21_797_672, 73.314),
    "resnet50": Published("ResNet", 25_557_032, 76.130,
                          note="Keras' convolutions have biases: 26,560 more"),
    "resnet101": Published("ResNet", 44_549_160, 77.374,
                           note="Keras' convolutions have biases: 52,672 more"),
}
"""By the names of `models.build`."""
