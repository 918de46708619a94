import { encodeModel } from '../../native-models/build/onnx.js';

/** y = a / b, int64 [N]: the smallest int64 by -1 kills the process (SIGFPE), other rows are harmless. On x64 alone. */
export function divisionModel(): Uint8Array {
  const vector = (name: string) => ({ name, type: 'int64', dims: ['N'] }) as const;
  return encodeModel({
    name: 'division',
    nodes: [{ opType: 'Div', input: ['a', 'b'], output: ['y'] }],
    initializers: [],
    inputs: [vector('a'), vector('b')],
    outputs: [vector('y')],
  });
}

/** Counts to x, int64 [1]: as long as the request says. y = x. */
export function countingModel(): Uint8Array {
  const isOn = (name: string) => ({ name, type: 'bool', dims: [] }) as const;
  const scalar = (name: string) => ({ name, type: 'int64', dims: [1] }) as const;
  const body = {
    name: 'body',
    nodes: [
      { opType: 'Identity', input: ['on'], output: ['stays-on'] },
      { opType: 'Add', input: ['count', 'one'], output: ['next'] },
    ],
    initializers: [{ name: 'one', dims: [1], data: BigInt64Array.of(1n) }],
    inputs: [{ name: 'turn', type: 'int64', dims: [] } as const, isOn('on'), scalar('count')],
    outputs: [isOn('stays-on'), scalar('next')],
  };
  return encodeModel({
    name: 'counting',
    nodes: [{ opType: 'Loop', input: ['x', '', 'zero'], output: ['y'], attributes: { body } }],
    initializers: [{ name: 'zero', dims: [1], data: BigInt64Array.of(0n) }],
    inputs: [scalar('x')],
    outputs: [scalar('y')],
  });
}

/** Fills as many bytes as the request says, four by four: y = 1, float32 [1]; input x, int64 [1]. */
export function fillingModel(): Uint8Array {
  return encodeModel({
    name: 'filling',
    nodes: [
      { opType: 'Expand', input: ['value', 'x'], output: ['filled'] },
      { opType: 'Mul', input: ['filled', 'filled'], output: ['product'] },
      { opType: 'ReduceMax', input: ['product'], output: ['max'], attributes: { keepdims: 0 } },
      { opType: 'Reshape', input: ['max', 'shape'], output: ['y'] },
    ],
    initializers: [
      { name: 'value', dims: [1], data: Float32Array.of(1) },
      { name: 'shape', dims: [1], data: BigInt64Array.of(1n) },
    ],
    inputs: [{ name: 'x', type: 'int64', dims: [1] }],
    outputs: [{ name: 'y', dims: [1] }],
  });
}

/** Functions that call each other so many levels deep: onnxruntime looks into them by recursion as it loads the model. */
export function deepModel(depth: number): Uint8Array {
  const functions = Array.from({ length: depth }, (_, index) => ({
    name: `level-${index}`,
    nodes: [
      index === 0
        ? { opType: 'Neg', input: ['x'], output: ['y'] }
        : { opType: `level-${index - 1}`, isLocal: true, input: ['x'], output: ['y'] },
    ],
    input: ['x'],
    output: ['y'],
  }));
  return encodeModel({
    name: 'deep',
    functions,
    nodes: [{ opType: `level-${depth - 1}`, isLocal: true, input: ['x'], output: ['y'] }],
    initializers: [],
    inputs: [{ name: 'x', dims: ['N'] }],
    outputs: [{ name: 'y', dims: ['N'] }],
  });
}
