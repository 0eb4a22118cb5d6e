"""Data sets: digits, CIFAR-10/100, Tiny-ImageNet, any folder of images, your own tensors.

Decoded once into a uint8 cache that later runs map into memory; split by class with a seed; one tensor on
the device. Test data has one door, `test_split`, which only the verdict opens.
"""
