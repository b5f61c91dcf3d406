"""The bridge: Keras 3 models through tf_keras to the TensorFlow Model Optimization toolkit and back."""
