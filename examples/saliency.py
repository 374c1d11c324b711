"""Where a network looks: the gradient of a class's logit by the pixels (Simonyan, Vedaldi and Zisserman, 2013).

python examples/saliency.py [OUT.png]: learns the digits in some seconds; a row of digits, and below each how much every
pixel counts for the network's answer.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import cnnc

net = cnnc.parse(
    """
    model small(classes = 10, width = 16) {
        input digit: f32[N, 1, 8, 8]
        x = digit -> conv(width, 3, padding=1) -> batchnorm -> relu
                  -> conv(2 * width, 3, padding=1) -> batchnorm -> relu -> maxpool(2)
        return x -> flatten -> dropout(0.2) -> linear(classes) as head
    }
"""
)
digits = np.load(Path(__file__).parent / "data" / "digits.npz")
x, x_test = ((digits[name][:, None] / 255).astype(np.float32) for name in ("x_train", "x_test"))
y, y_test = digits["y_train"], digits["y_test"]
trainer = cnnc.Trainer(net, optimizer=cnnc.sgd(lr=0.02, momentum=0.9), seed=1)
trainer.fit((x, y, x_test, y_test), epochs=5, batch=64)

# the first of each digit in the test part, and what the network says of it: every inner value is there by its name
shown = x_test[[int(np.argmax(y_test == d)) for d in range(10)]]
values = net.trace(shown, names=["relu2", "head"])
said = values["head"].argmax(1)
print(f"they are taken for {', '.join(map(str, said))}; {(values['relu2'] == 0).mean():.0%} of relu2 is 0")

# of the network as it predicts, the gradient of each image's own class by its pixels: d head[i, said[i]] / d digit
saliency = cnnc.value_and_grad(net, of="head", wrt=["digit"])
_, gradients = saliency(shown, grad_output=np.eye(10)[said])
heat = np.abs(gradients["digit"][:, 0])
heat /= heat.max((1, 2), keepdims=True)

# black, red, yellow, white as heat grows; the digits above are grey
colored = np.clip(3 * heat[..., None] - np.arange(3), 0, 1)
rows = [np.repeat(shown[:, 0, :, :, None], 3, -1), colored]
pixels = np.vstack(
    [np.hstack([np.pad(tile, ((1, 1), (1, 1), (0, 0)), constant_values=0.5) for tile in row]) for row in rows]
)
out = Path(sys.argv[1] if len(sys.argv) > 1 else "saliency.png")
picture = Image.fromarray((255 * pixels).astype(np.uint8))
picture.resize((12 * picture.width, 12 * picture.height), Image.Resampling.NEAREST).save(out)
print(f"wrote {out}")
