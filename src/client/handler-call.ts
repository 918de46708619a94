import { HANDLER_REQUEST, jsonTensor } from '../open-inference/handler-tensors.js';
import type { HandlerCall, InferCall } from './transports/transport.js';

/** Puts the request of a handler into a tensor. */
export function inferCallOf({ request, ...call }: HandlerCall): InferCall {
  return { ...call, inputs: [{ name: HANDLER_REQUEST, tensor: jsonTensor(request) }], outputs: undefined };
}
