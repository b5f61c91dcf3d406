"""The config for one kernel, through TFMOT's way of copying it."""

from kdfuse.bridge.configs import kernel_config, nothing_config, output_config, registry, scope, tfmot_module
from kdfuse.bridge.imports import guests


def test_a_kernel_config_is_made_again_with_all_it_says() -> None:
    kind = kernel_config()
    for clusters, per_channel, name in (
        (True, True, "ClusterPreserveDefault8BitConvWeightsQuantizer"),
        (True, False, "ClusterPreserveDefault8BitWeightsQuantizer"),
        (False, True, "Default8BitConvWeightsQuantizer"),
        (False, False, "LastValueQuantizer"),
    ):
        config = kind("kernel", per_channel, clusters, True, False)
        with scope():
            again = kind.from_config(config.get_config())
        assert type(again.weight_quantizer).__name__ == type(config.weight_quantizer).__name__ == name
        assert again.get_config() == config.get_config() and again.activation_attrs == []
    assert kind("kernel", False, False, False, True).activation_attrs == ["activation"]


def test_each_kernel_has_a_quantizer_of_its_own() -> None:
    first, second = (kernel_config()("kernel", False, True, True, True) for _ in range(2))
    assert first.weight_quantizer is not second.weight_quantizer and first.weight_quantizer.preserve_sparsity


def test_the_other_configs_and_the_table_are_tfmots() -> None:
    dense = guests().tf_keras.layers.Dense(2)
    assert registry().supports(dense) and not registry().supports(guests().tf_keras.layers.LSTM(2))
    assert nothing_config()().get_output_quantizers(dense) == []
    assert len(output_config()().get_output_quantizers(dense)) == 1
    assert hasattr(tfmot_module("quant_ops"), "MovingAvgQuantize")
