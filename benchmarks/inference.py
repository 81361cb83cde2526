"""Batch inference against ONNX Runtime, in turns on the same machine and threads.

    python benchmarks/inference.py [--threads 2] [--batch 1000]

Both get float32 images of 32x32 and give logits; the ONNX graph holds the same weights.
"""

import argparse
import statistics

import numpy as np
from common import machine, peak_gflops, rest, seconds, table

import lenet5c


def onnx_session(model: lenet5c.Model, threads: int):
    """The same LeNet-5 as an ONNX Runtime session."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = [
        numpy_helper.from_array(np.array(value), name)
        for name, value in model.parameters.items()
    ]
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = []

    def node(kind: str, x: str, y: str, *parameters: str, **options: object) -> None:
        nodes.append(helper.make_node(kind, [x, *parameters], [y], **options))

    node("Conv", "x", "c1", "C1.weight", "C1.bias")
    node("Tanh", "c1", "t1")
    node("AveragePool", "t1", "s2", **pool)
    node("Conv", "s2", "c3", "C3.weight", "C3.bias")
    node("Tanh", "c3", "t3")
    node("AveragePool", "t3", "s4", **pool)
    node("Conv", "s4", "c5", "C5.weight", "C5.bias")
    node("Tanh", "c5", "t5")
    node("Flatten", "t5", "flat")
    node("Gemm", "flat", "f6", "F6.weight", "F6.bias", transB=1)
    node("Tanh", "f6", "t6")
    node("Gemm", "t6", "y", "OUTPUT.weight", "OUTPUT.bias", transB=1)
    graph = helper.make_graph(
        nodes,
        "lenet5",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    threads, batch = arguments.threads, arguments.batch
    model = lenet5c.lenet5()
    session = onnx_session(model, threads)
    x = np.random.default_rng(0).standard_normal((batch, 1, 32, 32)).astype(np.float32)
    difference = np.abs(session.run(None, {"x": x})[0] - model.forward(x)).max()
    times: dict[str, list[float]] = {"lenet5c": [], "ONNX Runtime": []}
    for _ in range(arguments.rounds):
        for name, work in (
            ("lenet5c", lambda: model.forward(x, threads=threads)),
            ("ONNX Runtime", lambda: session.run(None, {"x": x})),
        ):
            rest()
            work()
            times[name].append(statistics.median(seconds(work) for _ in range(5)))
    print(machine())
    peak = peak_gflops(threads)
    print(f"batch {batch}, {threads} threads, logits differ by {difference:.1e}\n")
    rows = [("", "img/s", "GFLOP/s", "of peak", "ratio")]
    best = statistics.median(times["lenet5c"])
    for name, values in times.items():
        took = statistics.median(values)
        gflops = 2e-9 * model.multiply_adds * batch / took
        rows.append(
            (
                name,
                f"{batch / took:,.0f}",
                f"{gflops:.0f}",
                f"{gflops / peak:.0%}",
                f"{took / best:.1f}x",
            )
        )
    print(table(rows))


if __name__ == "__main__":
    main()
