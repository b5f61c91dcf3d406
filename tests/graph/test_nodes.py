import keras

from kdfuse.graph.nodes import graph_of, nodes_of

layers = keras.layers


def test_the_graph_that_a_call_runs():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    stack = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    assert graph_of(model) is model and graph_of(stack) is stack._functional
    assert graph_of(keras.Sequential([layers.Dense(2)])) is None and graph_of(layers.Dense(2)) is None

    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    assert graph_of(Own(inputs, inputs)) is None


def test_steps_come_after_what_they_read_and_a_shared_layer_at_each_call():
    first, second, shared = keras.Input((3,), name="first"), keras.Input((3,), name="second"), layers.Dense(2, name="shared")
    made = layers.Add(name="sum")([shared(first), shared(second)])
    names = [node.operation.name for node in nodes_of(graph_of(keras.Model([first, second], layers.Dense(1, name="last")(made))))]
    assert sorted(names) == ["last", "shared", "shared", "sum"] and names[-2:] == ["sum", "last"]
