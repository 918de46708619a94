import { expect, it } from 'vitest';
import { readMetadata, whyNotServed } from '../../../dist/worker/sessions/session-metadata.js';

const tensor = (name: string, type = 'float32') => ({ name, isTensor: true, type, shape: ['N'] }) as const;
const x = [tensor('x')];

it('an output that cannot be carried is left out unless its name is one that onnxruntime-node always fetches', () => {
  const values = (name: string) => ({ inputMetadata: x, outputMetadata: [tensor('y'), tensor(name, 'int4')] });
  expect(whyNotServed(values('z'))).toBeUndefined();
  for (const name of ['constructor', 'toString', '__proto__']) {
    const reason = `output "${name}" cannot be left out: it has type int4, which onnxruntime-node cannot carry`;
    expect(whyNotServed(values(name))).toBe(reason);
  }
});

it('an input that cannot be carried refuses the model', () => {
  const sequence = { name: 's', isTensor: false } as const;
  expect(whyNotServed({ inputMetadata: [sequence], outputMetadata: x })).toContain(
    'input "s" cannot be given: it is a',
  );
  expect(whyNotServed({ inputMetadata: x, outputMetadata: [] })).toContain('it has none at all');
});

it('metadata is frozen at any depth', () => {
  const { inputs, outputs, omittedOutputs } = readMetadata({
    inputMetadata: x,
    outputMetadata: [tensor('y'), tensor('z', 'int4')],
  });
  for (const part of [inputs, inputs[0], inputs[0]?.shape, outputs, omittedOutputs, omittedOutputs[0]]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
});
