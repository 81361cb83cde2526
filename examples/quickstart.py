"""LeNet-5 in ten lines: train, test, save, load, predict. Needs no network."""

import lenet5c

data = lenet5c.datasets.digits()  # or mnist()
model = lenet5c.lenet5()
print(model.summary())

history = model.fit(*data.train, epochs=5)
print(f"test accuracy {model.evaluate(*data.test).accuracy:.1%}")

model.save("digits.lenet5c")
model = lenet5c.load("digits.lenet5c")
print(model.predict(data.test.images[:10]), data.test.labels[:10])
