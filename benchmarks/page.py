"""The exported page: time of one image in a browser, and size of the file.

    python benchmarks/page.py [--images 50] [--networks lenet5 mlp cnn3 resnet18]

Needs Selenium, Chromium and its driver. Each network is exported as it is initialised,
in float32 and in int8; time is that of `forward` alone on images of noise, the median
after a few images that let the browser compile.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from common import machine, noise, table

import lenet5c

MEASURE = """
const [count, warm] = arguments;
const {input} = lenet5c.network;
const size = input.shape[0] * input.source[0] * input.source[1];
const times = [];
for (let n = 0; n < warm + count; n++) {
    const image = Uint8Array.from({length: size}, () => 256 * Math.random());
    const start = performance.now();
    lenet5c.forward(image);
    if (n >= warm) times.push(performance.now() - start);
}
return times.sort((a, b) => a - b)[Math.floor(count / 2)];
"""


def browser() -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(str(shutil.which("chromedriver")))
    driven = webdriver.Chrome(options, service)
    driven.set_page_load_timeout(600)
    driven.set_script_timeout(600)
    return driven


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument(
        "--networks", nargs="+", default=["lenet5", "mlp", "cnn3", "resnet18"]
    )
    args = parser.parse_args()
    print(machine())
    images, _ = noise(20)
    rows = [("network", "numbers", "ms an image", "file")]
    driven = browser()
    version = driven.capabilities["browserVersion"]
    print(f"Chromium {version}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in args.networks:
                model = getattr(lenet5c, name)()
                both = {"float32": model, "int8": model.quantize(images)}
                for numbers, which in both.items():
                    path = Path(folder, "page.html")
                    which.export_page(path)
                    driven.get(path.as_uri())
                    time = driven.execute_script(MEASURE, args.images, 10)
                    size = path.stat().st_size
                    rows.append(
                        (name, numbers, f"{time:.2f}", f"{size / 1000:,.0f} KB")
                    )
    finally:
        driven.quit()
    print(table(rows))


if __name__ == "__main__":
    main()
