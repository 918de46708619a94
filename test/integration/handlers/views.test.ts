import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine, type Outputs } from '../../../dist/index.js';
import { HANDLER, models, outcome, requestsTo, startHandler, x } from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const ask = requestsTo(() => engine);

afterEach(() => engine?.destroy());

const memory = new Float32Array(1_000);
const part = memory.subarray(4, 8);
const bytesOf = (view: unknown) => (view as ArrayBufferView).buffer.byteLength;

describe('views on parts of larger memory', () => {
  it('come to a handler without the rest of the memory, unless that is in the request', async () => {
    engine = await startHandler();
    const shared = Buffer.from(new SharedArrayBuffer(64), 8, 4);
    const views = [part, Buffer.from('text'), new DataView(memory.buffer, 8, 8), memory, shared];
    expect(await ask({ do: 'measure', views })).toEqual([16, 4, 8, 4_000, 64]);
    expect(await ask({ do: 'measure', views: [part], memory: memory.buffer })).toEqual([4_000]);
    expect(await ask({ do: 'echo', value: new Map([['part', part]]) })).toEqual(new Map([['part', part]]));
  });

  it('come back from a handler without the rest of its memory', async () => {
    engine = await startHandler();
    const answer = await ask<Record<string, ArrayBufferView>>({ do: 'part' });
    expect(Object.values(answer).map(bytesOf)).toEqual([4, 16]);
    expect(answer).toEqual({ text: new Uint8Array(Buffer.from('text')), part: new Float32Array(4) });
  });

  it('are refused with what is wrong beside them', async () => {
    engine = await startHandler();
    const unreadable = {
      part,
      get other() {
        throw new Error('as asked');
      },
    };
    const refused = 'INVALID_ARGUMENT: the request cannot be cloned, so no handler can take it: ';
    expect(await outcome(ask(unreadable))).toBe(`${refused}as asked`);
    expect(await outcome(ask({ part, proxy: new Proxy({}, {}) }))).toBe(`${refused}#<Object> could not be cloned.`);
  });

  it('are as small in what a handler reports and logs', async () => {
    const logged: Record<string, unknown>[] = [];
    const nothing = () => undefined;
    const warn = (fields: Record<string, unknown>) => logged.push(fields);
    const logger = { debug: nothing, info: nothing, warn, error: nothing } as never;
    engine = await createEngine({ models, logger, replicas: 1, handler: HANDLER, routingStats: { periodMs: 5 } });
    await ask({ do: 'log a part' }, 'default');
    const reported = () => engine.status().replicas[0]?.routingStats?.['part'];
    await until(() => logged.length > 0 && reported() !== undefined);
    expect([logged[0]?.['part'], reported()].map(bytesOf)).toEqual([16, 16]);
  });

  it('do not come of the models that a handler runs', async () => {
    engine = await startHandler();
    const { y } = await ask<Outputs>({ do: 'outputs', model: 'times-2', x });
    expect(y?.data).toEqual(Float32Array.of(10, 0, 0, 0));
    expect(bytesOf(y?.data)).toBe(16);
  });
});
