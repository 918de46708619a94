import type { Batching } from '../../../dist/contracts/batching.js';
import type { RoutedModel, RoutedRequest } from '../../../dist/routing/pending-request.js';
import type { TensorFeeds } from '../../../dist/tensors/tensor.js';

export function fakeModel(id: string, bytes = 1_000, batching?: Batching): RoutedModel {
  return { id, key: `${id}@1`, path: `/nowhere/${id}.onnx`, bytes, batching };
}

export function fakeRequest(model: RoutedModel, feeds: TensorFeeds = {}): RoutedRequest {
  const terms = {
    priority: 0,
    deadline: undefined,
    signal: undefined,
    takeOver: undefined,
    apartBytes: 0,
    releaseFeeds: undefined,
    payload: undefined,
    shardKey: undefined,
    labels: undefined,
    hints: undefined,
    isShadow: false,
    trace: undefined,
  };
  return { model, feeds, outputs: undefined, checked: true, ...terms };
}
