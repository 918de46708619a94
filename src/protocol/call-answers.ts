import type { ErrorRecord } from '../common/values/error-record.js';
import { APART_FROM_BYTES } from '../tensors/memory/size-class.js';
import {
  agreeFrom,
  elementsOf,
  newTensor,
  type Outputs,
  setProperty,
  type Tensor,
  type TensorData,
} from '../tensors/tensor.js';
import type { CallAnswer } from './messages.js';
import {
  ownSlice,
  type PackedTensor,
  PackingBuffer,
  type PartedTensor,
  packedBytes,
  transferListOf,
} from './packing.js';
import { rowsAt } from './request-groups.js';

/** One ONNX call, for one request or for a batch. */
export interface Call {
  readonly requests: number;
  readonly runMs: number;
  /** Undefined when it failed. */
  readonly outputs: Outputs | undefined;
  readonly error: ErrorRecord | undefined;
  /** Large outputs of a batch by name, already split: an array for each request. */
  readonly parts?: Parts | undefined;
}

type Parts = ReadonlyMap<string, readonly TensorData[]>;

/** Larger outputs stay in their own buffers; smaller ones of neighbours are joined end to end. */
const JOINED_BELOW_BYTES = 16_384;

/** Packs the calls of each group for one message, with the buffers to transfer, if a transfer pays. */
export function packCalls(groups: readonly (readonly Call[])[]): { calls: CallAnswer[][]; transfer: ArrayBuffer[] } {
  const runs = groups.map(alikeInRow);
  let bytes = 0;
  let isJoined = false;
  for (const run of runs.flat()) {
    if (run.length === 1) continue;
    bytes += bytesOf(run);
    isJoined = true;
  }
  const buffer = isJoined ? new PackingBuffer(bytes) : undefined;
  const buffers: ArrayBuffer[] = [];
  const calls = runs.map((group) => group.map((run) => packRun(run, buffer)));
  for (const answers of calls) {
    for (const { outputs } of answers) {
      for (const output of outputs ?? []) {
        const arrays = 'parts' in output ? output.parts : [output.data];
        for (const data of arrays) if (ArrayBuffer.isView(data)) buffers.push(data.buffer as ArrayBuffer);
      }
    }
  }
  return { calls, transfer: transferListOf(buffers) };
}

/** Groups neighbours whose outputs can be joined end to end. */
function alikeInRow(calls: readonly Call[]): Call[][] {
  const runs: Call[][] = [];
  let run: Call[] | undefined;
  for (const call of calls) {
    if (run?.[0] !== undefined && areAlike(run[0], call)) run.push(call);
    else {
      run = [call];
      runs.push(run);
    }
  }
  return runs;
}

function areAlike(left: Call, right: Call): boolean {
  if (left.requests > 1 || right.requests > 1 || left.outputs === undefined || right.outputs === undefined)
    return false;
  for (const name in left.outputs) {
    const one = left.outputs[name] as Tensor;
    const other = right.outputs[name];
    if (other === undefined || !agreeFrom(0, one, other)) return false;
    if (packedBytes(one.type, one.data.length) > JOINED_BELOW_BYTES) return false;
  }
  return true;
}

function bytesOf(run: readonly Call[]): number {
  const outputs = run[0]?.outputs;
  let bytes = 0;
  for (const name in outputs) {
    const { type, data } = outputs[name] as Tensor;
    bytes += packedBytes(type, data.length * run.length);
  }
  return bytes;
}

function packRun(run: readonly Call[], buffer: PackingBuffer | undefined): CallAnswer {
  const [{ requests, outputs, error, parts }] = run as [Call];
  const runMs = run.map((call) => call.runMs);
  const tensors =
    outputs && (buffer === undefined || run.length === 1 ? toPacked(outputs, parts) : join(run, outputs, buffer));
  return { requests: requests * run.length, joined: requests > 1, runMs, outputs: tensors, error };
}

function join(run: readonly Call[], outputs: Outputs, buffer: PackingBuffer): PackedTensor[] {
  return Object.entries(outputs).map(([name, { type, dims }]) => {
    const parts = run.map((call) => ((call.outputs as Outputs)[name] as Tensor).data);
    return { name, type, dims, data: buffer.join(type, parts) };
  });
}

/** @param parts of outputs that are split already. */
export function toPacked(outputs: Outputs, parts?: Parts): (PackedTensor | PartedTensor)[] {
  return Object.entries(outputs).map(([name, { type, dims, data }]) => {
    const own = parts?.get(name);
    return own === undefined ? { name, type, dims, data } : { name, type, dims, parts: own, given: [] };
  });
}

/**
 * Splits the large outputs of a batch, so that the calling thread need not copy them.
 *
 * @param rows of each request along axis 0.
 */
export function splitLarge(outputs: Outputs, requests: number, rows: number | readonly number[]): Parts | undefined {
  let parts: Map<string, readonly TensorData[]> | undefined;
  for (const name in outputs) {
    const { dims, data } = outputs[name] as Tensor;
    if (!ArrayBuffer.isView(data) || data.byteLength / requests < APART_FROM_BYTES) continue;
    parts ??= new Map();
    parts.set(name, slicesOf(data, dims, requests, rows));
  }
  return parts;
}

/** Returns the elements of each request in memory of their own. */
function slicesOf(
  data: TensorData,
  dims: readonly number[],
  requests: number,
  rows: number | readonly number[],
): TensorData[] {
  const elementsPerRow = elementsOf(dims.slice(1));
  const slices: TensorData[] = [];
  let start = 0;
  for (let index = 0; index < requests; index += 1) {
    const end = start + rowsAt(rows, index) * elementsPerRow;
    slices.push(ownSlice(data, start, end));
    start = end;
  }
  return slices;
}

/**
 * Returns the outputs of each request of a call, in memory of its own.
 *
 * @param rows of each request along axis 0, if they were joined; otherwise the outputs have the dims of one request.
 */
export function splitOutputs(
  outputs: readonly (PackedTensor | PartedTensor)[],
  requests: number,
  rows: number | readonly number[] | undefined,
): Outputs[] {
  const all: Record<string, Tensor>[] = [];
  for (let index = 0; index < requests; index += 1) all.push({});
  for (const tensor of outputs) {
    if (rows !== undefined) splitRows(all, tensor, rows);
    else if (!('parts' in tensor)) splitEvenly(all, tensor);
  }
  return all;
}

function splitRows(
  all: Record<string, Tensor>[],
  tensor: PackedTensor | PartedTensor,
  rows: number | readonly number[],
) {
  const { name, type, dims } = tensor;
  const parts = 'parts' in tensor ? tensor.parts : slicesOf(tensor.data, dims, all.length, rows);
  let ownDims = dimsOf(dims, rowsAt(rows, 0));
  for (const [index, data] of parts.entries()) {
    const count = rowsAt(rows, index);
    if (ownDims[0] !== count) ownDims = dimsOf(dims, count);
    setProperty(all[index] as Record<string, Tensor>, name, newTensor(type, ownDims, data));
  }
}

/** Returns frozen dims, because requests share them. */
function dimsOf([, ...rest]: readonly number[], rows: number): readonly number[] {
  return Object.freeze([rows, ...rest]);
}

function splitEvenly(all: Record<string, Tensor>[], { name, type, dims, data }: PackedTensor) {
  const elements = elementsOf(dims);
  const ownDims = Object.freeze(dims.slice());
  for (let index = 0; index < all.length; index += 1) {
    const own = ownSlice(data, index * elements, (index + 1) * elements);
    setProperty(all[index] as Record<string, Tensor>, name, newTensor(type, ownDims, own));
  }
}
