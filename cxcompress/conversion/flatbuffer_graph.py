"""A LiteRT flatbuffer as objects that can be changed, and back to bytes with aligned kernels."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

ALIGNMENT = 16
"""Bytes, as LiteRT's schema asks for buffers; Python's own writer aligns them to 1."""
DTYPES = {schema.TensorType.FLOAT32: np.dtype("<f4"), schema.TensorType.INT8: np.dtype("i1"),
          schema.TensorType.INT32: np.dtype("<i4")}
WEIGHT_INPUTS = {schema.BuiltinOperator.CONV_2D: (1, 2),
                 schema.BuiltinOperator.DEPTHWISE_CONV_2D: (1, 2),
                 schema.BuiltinOperator.FULLY_CONNECTED: (1, 2),
                 schema.BuiltinOperator.TRANSPOSE_CONV: (1, 3)}
"""Positions of the weights and of the bias among an operator's inputs."""


class _AlignedBuffer(schema.BufferT):
    def Pack(self, builder):  # the name is the generated code's
        if self.data is None or not len(self.data):
            data = None
        else:
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head:builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class FlatbufferGraph:
    """The graph of a flatbuffer: constants by tensor number, and which operators use them.

    Only the first subgraph is looked at: the others hold loop bodies of recurrent layers, whose
    constants stay as they are.

    Args:
        flatbuffer: As the converter wrote it.
    """

    def __init__(self, flatbuffer: bytes):
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
        self.subgraph = self.model.subgraphs[0]

    def constants(self, dtype) -> list[int]:
        """Numbers of the constant tensors of a type, of two axes or more, in operators' order."""
        wanted = np.dtype(dtype)
        found: dict[int, None] = {}
        for operator in self.subgraph.operators:
            for number in operator.inputs:
                if number < 0:
                    continue
                tensor = self.subgraph.tensors[number]
                if (DTYPES.get(tensor.type) == wanted and self._data(tensor) is not None
                        and len(tensor.shape) > 1):
                    found[int(number)] = None
        return list(found)

    def array(self, number: int) -> NDArray:
        """A constant's values, in its shape."""
        tensor = self.subgraph.tensors[number]
        data = np.asarray(self._data(tensor), np.uint8)
        return data.view(DTYPES[tensor.type]).reshape(tensor.shape)

    def name(self, number: int) -> str:
        """A tensor's name."""
        return bytes(self.subgraph.tensors[number].name).decode(errors="replace")

    def scales(self, number: int) -> tuple[NDArray[np.float32], int]:
        """A tensor's scales and the axis that they belong to."""
        found = self.subgraph.tensors[number].quantization
        return np.asarray(found.scale, np.float32), int(found.quantizedDimension)

    def is_quantised(self, number: int) -> bool:
        """Whether a tensor is of integers with scales."""
        found = self.subgraph.tensors[number].quantization
        return found is not None and found.scale is not None and len(found.scale) > 0

    def users(self, number: int) -> list[schema.OperatorT]:
        """Operators that take a tensor as their weights, in order."""
        return [operator for operator in self.subgraph.operators
                if (places := WEIGHT_INPUTS.get(self.kind(operator)))
                and operator.inputs[places[0]] == number]

    def kind(self, operator: schema.OperatorT) -> int:
        """An operator's number in `schema.BuiltinOperator`."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode)

    def bias(self, operator: schema.OperatorT) -> int | None:
        """The tensor number of an operator's bias, or None."""
        place = WEIGHT_INPUTS[self.kind(operator)][1]
        if place >= len(operator.inputs) or operator.inputs[place] < 0:
            return None
        return int(operator.inputs[place])

    def activations(self, operator: schema.OperatorT) -> tuple[float, float] | None:
        """Scales of an operator's input and output; None where these are float."""
        places = WEIGHT_INPUTS[self.kind(operator)]
        data = 2 if places[1] == 3 else 0
        numbers = operator.inputs[data], operator.outputs[0]
        if not all(self.is_quantised(number) for number in numbers):
            return None
        return tuple(float(self.scales(number)[0][0]) for number in numbers)

    def set_array(self, number: int, values: NDArray) -> None:
        """Give a constant tensor values (and the type of these) in a buffer of its own."""
        tensor = self.subgraph.tensors[number]
        tensor.type = next(kind for kind, dtype in DTYPES.items() if dtype == values.dtype)
        if tensor.type == schema.TensorType.FLOAT32:
            tensor.quantization = None
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer = len(self.model.buffers) - 1

    def set_scales(self, number: int, scales: NDArray, axis: int) -> None:
        """Give an integer tensor scales along an axis, with zero points of 0."""
        found = self.subgraph.tensors[number].quantization
        found.scale = np.asarray(scales, np.float32)
        found.zeroPoint = np.zeros(len(scales), np.int64)
        found.quantizedDimension = axis
        found.min = found.max = None

    def packed(self) -> bytes:
        """The flatbuffer, without unused buffers and inner names: small networks are half names."""
        self.model.metadata = None
        for subgraph in self.model.subgraphs:
            ends = {*subgraph.inputs, *subgraph.outputs}
            for number, tensor in enumerate(subgraph.tensors):
                if number not in ends:
                    tensor.name = None
        used = {tensor.buffer for subgraph in self.model.subgraphs for tensor in subgraph.tensors}
        for number, buffer in enumerate(self.model.buffers):
            if number not in used:
                buffer.data = None
            buffer.__class__ = _AlignedBuffer
        builder = schema.flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def offsets(self, flatbuffer: bytes, numbers: list[int]) -> dict[int, int]:
        """Where the values of constants begin in the packed flatbuffer."""
        root = schema.Model.GetRootAs(flatbuffer, 0)
        found = {}
        for number in numbers:
            table = root.Buffers(self.subgraph.tensors[number].buffer)._tab
            found[number] = int(table.Vector(table.Offset(4)))
        return found

    def _data(self, tensor) -> NDArray | None:
        data = self.model.buffers[tensor.buffer].data
        return data if data is not None and len(data) else None
