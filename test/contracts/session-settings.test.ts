import { expect, it } from 'vitest';
import { readSession } from '../../dist/contracts/session-settings.js';
import { copyOptions } from '../../dist/deployments/checkpoint/saved-deployments.js';
import { checkSources } from '../../dist/models/sources/model-sources.js';

it('settings for sessions go to other threads without the memory beside external data', () => {
  const data = new Uint8Array(1_000).subarray(4, 8);
  const session = { externalData: [{ path: 'weights.bin', data }] };
  for (const copy of [
    readSession('session', session),
    copyOptions('deployment', { session }).session,
    checkSources('models', { m: { path: '/m.onnx', session } })['m']?.session,
  ]) {
    expect(copy).toEqual(session);
    const { externalData } = copy as typeof session;
    expect(externalData.map((external) => external.data.buffer.byteLength)).toEqual([4]);
  }
});
