"""Which Keras 3 layers have a twin in tf_keras, and which settings make it."""

# A layer: the settings it shares with its twin. `old=new` where tf_keras calls the setting `new`.
_CONVOLUTION = "filters kernel_size strides padding data_format dilation_rate groups use_bias"
_TRANSPOSE = "filters kernel_size strides padding output_padding data_format dilation_rate use_bias"
_DEPTHWISE = "kernel_size strides padding depth_multiplier data_format dilation_rate use_bias"
_SEPARABLE = f"filters {_DEPTHWISE}"
_POOLING = "pool_size strides padding data_format"
_GLOBAL = "data_format keepdims"
_RECURRENT = "units use_bias dropout recurrent_dropout return_sequences return_state go_backwards unroll seed zero_output_for_mask"

TWINS: dict[str, str] = {
    "Dense": "units use_bias",
    "EinsumDense": "equation output_shape bias_axes",
    "Embedding": "input_dim output_dim mask_zero",
    "Conv1D": _CONVOLUTION, "Conv2D": _CONVOLUTION, "Conv3D": _CONVOLUTION,
    "Conv1DTranspose": _TRANSPOSE, "Conv2DTranspose": _TRANSPOSE, "Conv3DTranspose": _TRANSPOSE,
    "DepthwiseConv1D": _DEPTHWISE, "DepthwiseConv2D": _DEPTHWISE,
    "SeparableConv1D": _SEPARABLE, "SeparableConv2D": _SEPARABLE,
    "BatchNormalization": "axis momentum epsilon center scale",
    "LayerNormalization": "axis epsilon center scale",
    "GroupNormalization": "groups axis epsilon center scale",
    "UnitNormalization": "axis",
    "Activation": "", "ReLU": "max_value negative_slope threshold", "LeakyReLU": "negative_slope=alpha", "ELU": "alpha",
    "PReLU": "shared_axes", "Softmax": "axis",
    "MaxPooling1D": _POOLING, "MaxPooling2D": _POOLING, "MaxPooling3D": _POOLING,
    "AveragePooling1D": _POOLING, "AveragePooling2D": _POOLING, "AveragePooling3D": _POOLING,
    "GlobalMaxPooling1D": _GLOBAL, "GlobalMaxPooling2D": _GLOBAL, "GlobalMaxPooling3D": _GLOBAL,
    "GlobalAveragePooling1D": _GLOBAL, "GlobalAveragePooling2D": _GLOBAL, "GlobalAveragePooling3D": _GLOBAL,
    "Add": "", "Subtract": "", "Multiply": "", "Average": "", "Maximum": "", "Minimum": "",
    "Concatenate": "axis", "Dot": "axes normalize",
    "Flatten": "data_format", "Reshape": "target_shape", "Permute": "dims", "RepeatVector": "n",
    "Cropping1D": "cropping", "Cropping2D": "cropping data_format", "Cropping3D": "cropping data_format",
    "ZeroPadding1D": "padding", "ZeroPadding2D": "padding data_format", "ZeroPadding3D": "padding data_format",
    "UpSampling1D": "size", "UpSampling2D": "size data_format interpolation", "UpSampling3D": "size data_format",
    "Masking": "mask_value", "Rescaling": "scale offset", "Identity": "",
    "LSTM": f"{_RECURRENT} unit_forget_bias", "GRU": f"{_RECURRENT} reset_after", "SimpleRNN": _RECURRENT,
    "MultiHeadAttention": "num_heads key_dim value_dim dropout use_bias output_shape attention_axes",
    "Attention": "use_scale score_mode dropout", "AdditiveAttention": "use_scale dropout",
}  # fmt: skip

# Settings that change nothing here: weights are copied, penalties and constraints stay with the Keras 3 variables.
INITIAL = ("initializer", "regularizer", "constraint")
IGNORED = {"name", "trainable", "dtype", "activation", "recurrent_activation", "batch_input_shape", "seed", "use_cudnn", "renorm_momentum"}

# The same function in both, by name. `hard_sigmoid` is another one in Keras 3.
ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "softmax", "elu", "selu", "softplus", "softsign", "exponential", "silu", "mish")

# Those that TFMOT takes inside a layer; any other comes after it. It takes swish too, but then leaves the layer in float.
INSIDE = ("linear", "relu", "sigmoid", "tanh", "softmax")

# Layers that draw at random: run as they are, so that a seed means the same, and in inference they pass their input on.
RANDOM = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise")
# State of their own, or no twin with the same arithmetic, and nothing to quantize or cluster: run as they are too.
AS_THEY_ARE = (*RANDOM, "Normalization", "ActivityRegularization")
