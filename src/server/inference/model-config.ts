import type { ModelInspection, TensorType, ValueMetadata } from '../../index.js';

const DATA_TYPES: Readonly<Record<TensorType, string>> = {
  bool: 'TYPE_BOOL',
  uint8: 'TYPE_UINT8',
  uint16: 'TYPE_UINT16',
  uint32: 'TYPE_UINT32',
  uint64: 'TYPE_UINT64',
  int8: 'TYPE_INT8',
  int16: 'TYPE_INT16',
  int32: 'TYPE_INT32',
  int64: 'TYPE_INT64',
  float16: 'TYPE_FP16',
  float32: 'TYPE_FP32',
  float64: 'TYPE_FP64',
  string: 'TYPE_STRING',
};

/**
 * The part of Triton's model configuration that its clients read. `max_batch_size` is 0, which says that the shapes are
 * whole, with the dimension of the batch.
 *
 * @param versions that are served.
 */
export function modelConfigOf(
  name: string,
  { inputs, outputs, whyNotBatched, path, format, replicas }: ModelInspection,
  versions: readonly string[],
) {
  return {
    name,
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    version_policy:
      versions.length > 1 ? { specific: { versions: versions.map(Number) } } : { latest: { num_versions: 1 } },
    max_batch_size: 0,
    input: inputs.map(configured),
    output: outputs.map(configured),
    instance_group: [{ name, kind: 'KIND_CPU', count: Math.max(1, replicas.length), gpus: [] as number[] }],
    default_model_filename: path === undefined ? `model.${format ?? 'onnx'}` : (path.split(/[\\/]/).at(-1) ?? ''),
    ...(whyNotBatched === undefined ? { dynamic_batching: {} } : {}),
  };
}

function configured({ name, type, shape }: ValueMetadata) {
  return { name, data_type: DATA_TYPES[type], dims: shape.map((size) => (typeof size === 'string' ? -1 : size)) };
}
