"""Plausible wrong answers to the exercises of lesson 10, and the thoughts behind."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2


def stages_1(*transforms):
    """Written from right to left, as functions are."""

    def apply(sample):
        samples = [sample]
        for transform in reversed(transforms):
            samples.append(transform(samples[-1]))
        return samples

    return apply


def stages_2(*transforms):
    """Each transform is applied to the sample."""
    return lambda sample: [sample, *(transform(sample) for transform in transforms)]


def stages_3(*transforms):
    """An iterator over the transforms, which is used up after the first sample."""
    steps = iter(transforms)

    def apply(sample):
        samples = [sample]
        for transform in steps:
            samples.append(transform(samples[-1]))
        return samples

    return apply


def stages_4(*transforms):
    """What the transforms made, without the sample that everybody knows."""

    def apply(sample):
        samples = []
        for transform in transforms:
            sample = transform(sample)
            samples.append(sample)
        return samples

    return apply


def batch_of_1(pictures, height, width):
    """Resized first and converted afterwards, without scale."""
    prepare = v2.Compose([v2.Resize((height, width)), v2.ToImage()])
    images = [prepare(picture.convert("RGB")).float() for picture in pictures]
    return torch.stack(images)


def batch_of_2(pictures, height, width):
    """PIL says (width, height), so Resize does, too."""
    prepare = v2.Compose(
        [
            v2.Resize((width, height)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return torch.stack([prepare(picture.convert("RGB")) for picture in pictures])


def batch_of_3(pictures, height, width):
    """Grey and palette pictures have one channel: repeat it."""
    prepare = v2.Compose(
        [
            v2.Resize((height, width)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    images = [prepare(picture)[:3] for picture in pictures]
    return torch.stack([image.expand(3, height, width) for image in images])


def batch_of_4(pictures, height, width):
    """One number, so that nothing is squeezed, and a crop."""
    prepare = v2.Compose(
        [
            v2.Resize(max(height, width)),
            v2.CenterCrop((height, width)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return torch.stack([prepare(picture.convert("RGB")) for picture in pictures])


def normalised_batch_1(images):
    """One mean for everything."""
    return (images - images.mean()) / images.std(correction=0)


def normalised_batch_2(images):
    """Each picture by itself."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) / images.std(dim=(2, 3), correction=0, keepdim=True)


def normalised_batch_3(images):
    """std() as it comes."""
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    return (images - mean) / images.std(dim=(0, 2, 3), keepdim=True)


def normalised_batch_4(images):
    """The constants that everybody uses."""
    return (images / 255 - 0.5) / 0.25


def normalised_batch_5(images):
    """In place, to save memory."""
    images -= images.mean(dim=(0, 2, 3), keepdim=True)
    images /= images.std(dim=(0, 2, 3), correction=0, keepdim=True)
    return images


def flipped_together_1(image, mask):
    """The same seed for both coins: the same side every time."""
    flip = v2.RandomHorizontalFlip(p=0.5)
    torch.manual_seed(0)
    image = flip(image)
    torch.manual_seed(0)
    return image, flip(mask)


def flipped_together_2(image, mask):
    """Always flip: then they are together."""
    return v2.RandomHorizontalFlip(p=1)(image, tv_tensors.Mask(mask))


def flipped_together_3(image, mask):
    """One call, but the mask is an unmarked tensor, and passes through."""
    return v2.RandomHorizontalFlip(p=0.5)(image, mask)


def flipped_together_4(image, mask):
    """Top to bottom is a flip too."""
    return v2.RandomVerticalFlip(p=0.5)(image, tv_tensors.Mask(mask))


def flipped_together_5(image, mask):
    """Stacked, they cannot part; the mask comes back as floats."""
    both = v2.RandomHorizontalFlip(p=0.5)(torch.cat([image, mask[None]]))
    return both[:-1], both[-1]


def between_0_and_1_1(image):
    """div_ returns a tensor, so it is a new one."""
    return image.div_(255)


def between_0_and_1_2(image):
    """A view is a copy."""
    result = image[:]
    result /= 255
    return result


def between_0_and_1_3(image):
    """The largest number is 1."""
    return image / 256


def between_0_and_1_4(image):
    """The brightest number is 1."""
    return image / image.max()


def between_0_and_1_5(image):
    """As ToDtype scales bytes only, make them bytes first."""
    return v2.ToDtype(torch.float32, scale=True)(image.to(torch.uint8))
