"""The exercises of lesson 10, solved."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2


def stages(*transforms):
    """A callable that lists a sample and what each transform makes of it."""

    def apply(sample):
        # Each one gets what the one before it returned: the last of the list.
        samples = [sample]
        for transform in transforms:
            samples.append(transform(samples[-1]))
        return samples

    return apply


def batch_of(pictures, height, width):
    """The pictures in RGB, of one size, as one tensor."""
    # convert comes first: a palette's numbers must not be mixed when it is resized.
    prepare = v2.Compose(
        [
            v2.Resize((height, width)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return torch.stack([prepare(picture.convert("RGB")) for picture in pictures])


def normalised_batch(images):
    """Each channel minus its mean, divided by its std."""
    # All dimensions but the channels' are averaged over, and kept to divide by.
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    return (images - mean) / images.std(dim=(0, 2, 3), correction=0, keepdim=True)


def flipped_together(image, mask):
    """Both flipped, or both as they are."""
    # Two calls would throw two coins.
    return v2.RandomHorizontalFlip(p=0.5)(image, tv_tensors.Mask(mask))


def between_0_and_1(image):
    """A new picture, image / 255."""
    # /= would divide the data set's own picture, again in every epoch.
    return image / 255
