"""cnnc as a library: a network from a text, its gradients, its training, and the compiled function."""

from pathlib import Path

import numpy as np

import cnnc

net = cnnc.parse(
    """
    model small(classes = 10, width = 16) {
        input digit: f32[N, 1, 8, 8]
        x = digit -> conv(width, 3, padding=1) -> batchnorm -> relu
                  -> conv(2 * width, 3, padding=1) -> batchnorm -> relu -> maxpool(2)
        return x -> flatten -> dropout(0.2) -> linear(classes) as head
    }
""",
    width=24,
)
print(net.summary())

digits = np.load(Path(__file__).parent / "data" / "digits.npz")
x, x_test = ((digits[name][:, None] / 255).astype(np.float32) for name in ("x_train", "x_test"))
y, y_test = digits["y_train"], digits["y_test"]

# one call gives the loss and the gradient of every parameter
loss, gradients = cnnc.value_and_grad(net)(x[:64], y[:64])
print(f"loss {loss:.3f} before training; the head's gradient is {gradients['head.weight'].shape}")

# weights are NumPy arrays by name; those that are assigned are checked
net.weights["head.bias"] = np.zeros(10)

# a step is one compiled call: forward, backward, update
trainer = cnnc.Trainer(net, optimizer=cnnc.sgd(lr=0.02, momentum=0.9), seed=1)
print(f"loss {trainer.step(x[:64], y[:64]):.3f} in the first step")
trainer.fit((x, y, x_test, y_test), epochs=5, batch=64)

# compiled for prediction: any batch size, any thread
classify = cnnc.compile(net)
logits = classify(x_test)
print(f"{(logits.argmax(1) == y_test).mean():.1%} of {len(y_test)} digits recognized")
print(f"one of them is a {classify(x_test[:1]).argmax()}, labelled {y_test[0]}")
