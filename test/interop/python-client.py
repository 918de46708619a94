"""A client of a server of the Open Inference Protocol, with nothing but stubs made from the definitions of others."""

import json
import struct
import sys
import threading
import time

import grpc
import health_pb2
import health_pb2_grpc
import triton_grpc_service_pb2 as pb
import triton_grpc_service_pb2_grpc as pb_grpc

channel = grpc.insecure_channel(sys.argv[1])
stub = pb_grpc.GRPCInferenceServiceStub(channel)
health = health_pb2_grpc.HealthStub(channel)


def code(call):
    try:
        call()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def request(model="times-2", values=(1, 2, 3, 4), raw=True, id="", **parameters):
    message = pb.ModelInferRequest(model_name=model, id=id)
    tensor = message.inputs.add(name="x", datatype="FP32")
    tensor.shape.extend([1, len(values)])
    if raw:
        message.raw_input_contents.append(struct.pack("<%df" % len(values), *values))
    else:
        tensor.contents.fp32_contents.extend(values)
    for name, value in parameters.items():
        message.parameters[name].int64_param = value
    return message


def floats(answer):
    return list(struct.unpack("<4f", answer.raw_output_contents[0]))


def metadata():
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="times-2"))
    config = stub.ModelConfig(pb.ModelConfigRequest(name="times-2")).config
    check = health_pb2.HealthCheckRequest
    return {
        "live": stub.ServerLive(pb.ServerLiveRequest()).live,
        "ready": stub.ServerReady(pb.ServerReadyRequest()).ready,
        "model_ready": stub.ModelReady(pb.ModelReadyRequest(name="times-2", version="1")).ready,
        "unknown_ready": code(lambda: stub.ModelReady(pb.ModelReadyRequest(name="none"))),
        "name": stub.ServerMetadata(pb.ServerMetadataRequest()).name,
        "inputs": [[each.name, each.datatype, list(each.shape)] for each in model.inputs],
        "outputs": [[each.name, each.datatype, list(each.shape)] for each in model.outputs],
        "config": [
            config.name,
            config.backend,
            config.max_batch_size,
            [[each.name, each.data_type, list(each.dims)] for each in config.input],
        ],
        "index": "times-2" in [each.name for each in stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models],
        "health": health.Check(check(service="inference.GRPCInferenceService")).status,
        "health_unknown": code(lambda: health.Check(check(service="other"))),
    }


def infer():
    raw = stub.ModelInfer(request(id="mine"))
    typed = stub.ModelInfer(request(raw=False))
    answers = list(stub.ModelStreamInfer(request(id=str(index)) for index in range(5)))
    failed = list(stub.ModelStreamInfer(iter([request(model="none"), request()])))
    before = stub.ModelStatistics(pb.ModelStatisticsRequest(name="times-2", version="1")).model_stats[0]
    return {
        "raw": floats(raw),
        "raw_id": raw.id,
        "typed": list(typed.outputs[0].contents.fp32_contents),
        "stream": [answer.infer_response.id for answer in answers],
        "stream_error": failed[0].error_message != "" and failed[1].error_message == "",
        "parameters": floats(stub.ModelInfer(request(priority=1, timeout=10_000_000, other=3))),
        "statistics": before.inference_count >= 8 and before.inference_stats.success.ns > 0,
    }


TYPES = {
    "FP32": "<4f", "FP64": "<4d", "FP16": "<4e", "INT8": "<4b", "UINT8": "<4B", "INT16": "<4h", "UINT16": "<4H",
    "INT32": "<4i", "UINT32": "<4I", "INT64": "<4q", "UINT64": "<4Q", "BOOL": "<4?", "BYTES": None,
}


def types():
    """The model has an input of each type and answers with the same."""
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="identity"))
    message = pb.ModelInferRequest(model_name="identity")
    for each in model.inputs:
        tensor = message.inputs.add(name=each.name, datatype=each.datatype)
        tensor.shape.extend([2, 2])
        form = TYPES[each.datatype]
        if form is None:
            texts = [text.encode() for text in ("a", "", "longer text", "\u00e9\u4e2d")]
            message.raw_input_contents.append(b"".join(struct.pack("<I", len(text)) + text for text in texts))
        elif each.datatype == "BOOL":
            message.raw_input_contents.append(struct.pack(form, True, False, True, True))
        else:
            message.raw_input_contents.append(struct.pack(form, 0, 1, 2, 3))
    answer = stub.ModelInfer(message)
    sent = dict(zip([each.name.replace("in", "out") for each in message.inputs], message.raw_input_contents))
    got = dict(zip([each.name for each in answer.outputs], answer.raw_output_contents))
    return {"same": sent == got, "count": len(got)}


def errors():
    slow = pb.ModelInferRequest(model_name="handler")
    tensor = slow.inputs.add(name="request", datatype="BYTES")
    tensor.shape.append(1)
    tensor.contents.bytes_contents.append(b'{"ms": 60000}')
    slow.parameters["method"].string_param = "wait"
    future = stub.ModelInfer.future(slow)
    time.sleep(0.2)
    threading.Timer(0.1, future.cancel).start()
    try:
        future.result()
        cancelled = "OK"
    except grpc.FutureCancelledError:
        cancelled = "CANCELLED"
    return {
        "unknown": code(lambda: stub.ModelInfer(request(model="none"))),
        "shape": code(lambda: stub.ModelInfer(request(values=(1, 2, 3)))),
        "deadline": code(lambda: stub.ModelInfer(slow, timeout=0.1)),
        "cancelled": cancelled,
        "shared_memory": code(lambda: stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())),
        "load_unknown": code(lambda: stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="none"))),
    }


parts = {"metadata": metadata, "infer": infer, "types": types, "errors": errors}
print(json.dumps(parts[sys.argv[2]]()))
