from kdfuse.datasets.breast_cancer import load_breast_cancer as load_breast_cancer
from kdfuse.datasets.cifar10 import load_cifar10 as load_cifar10
from kdfuse.datasets.digits import load_digits as load_digits
from kdfuse.datasets.fashion_mnist import load_fashion_mnist as load_fashion_mnist
from kdfuse.datasets.load import load as load
from kdfuse.datasets.mnist import load_mnist as load_mnist
