"""The tutorial in seven steps: a deep network that recognizes cats, trained by hand.

Each step is a function with the tutorial's name. It takes records and returns new ones, so all
earlier values are still there. pydnn draws the cats; `load_data` loads photos instead. The Chinese
tutorial, .docs/教程.md, includes each step by its mark.
"""

# [imports and data]
import pydnn as nn
from pydnn.data import drawn_cats, to_batch
from pydnn.tutorial import (
    L_model_backward,
    L_model_forward,
    compute_cost,
    dnn_model,
    initialize_parameters_deep,
    predict,
    update_parameters,
)

train, test = (to_batch(images) for images in drawn_cats(train_count=200, test_count=100))
layers_dims = (12288, 20, 7, 5, 1)  # 64 x 64 pixels of 3 colors; three hidden layers; one answer

# [step 1] Initialize: weights from a seeded generator, biases at zero.
parameters = initialize_parameters_deep(layers_dims)
print("1. W1 has shape", parameters["W1"].shape, "and b1", parameters["b1"].shape)

# [step 2] Forward: the probability of a cat for each example, and the caches for step 4.
AL, caches = L_model_forward(train.X, parameters)
print(f"2. before training, all are cats with probability {AL.min():.2f} to {AL.max():.2f}")

# [step 3] Cost: the cross-entropy, in nats per example.
before = compute_cost(AL, train.Y)
print(f"3. cost {before:.4f}")

# [step 4] Backward: the gradient of the cost with respect to every parameter.
grads = L_model_backward(AL, train.Y, caches)
print(f"4. the largest gradient of W4 is {abs(grads['dW4']).max():.4f}")

# [step 5] Update: one step of gradient descent. The old parameters are still there, unchanged.
updated = update_parameters(parameters, grads, learning_rate=0.0075)
after = compute_cost(L_model_forward(train.X, updated)[0], train.Y)
print(f"5. cost {before:.6f} before the step, {after:.6f} after it")

# [step 6] Train: steps 2 to 5 as a fold over iterations.
trained = dnn_model(train.X, train.Y, layers_dims, num_iterations=601)

# [step 7] Predict: on drawings that were not used in training.
for name, data in (("train", train), ("test", test)):
    print(f"7. {name} accuracy {nn.accuracy(predict(data.X, trained), data.Y):.2f}")
