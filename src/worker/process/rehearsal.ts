import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromErrorRecord } from '../../common/values/error-record.js';
import { SharedBytes } from '../../protocol/frames/array-kinds.js';
import { copyThroughFrame } from '../../protocol/frames/copy.js';
import { writeFrame } from '../../protocol/frames/frame-writer.js';
import { hashMemory } from '../../protocol/hash-memory.js';
import type { ReplicaMessage, WorkerSettings } from '../../protocol/messages.js';
import { packGroups } from '../../protocol/request-groups.js';
import type { Tensor } from '../../tensors/tensor.js';
import { MessageHandler } from '../loop/message-handler.js';
import { memoryOfProcess } from './memory-rules.js';
import { ToldCounters } from './told-counters.js';

/** y = -x, float32 [N]: an ONNX model of 91 bytes. */
const BASE64 =
  'CAgSFmluZmVybXV4IG5hdGl2ZS1tb2RlbHM6OwoSCgF4EgF5GgVOZWdfMCIDTmVnEgFyWhAKAXgSCwoJCAESBQoDEgFOYhAKAXkSCwoJCAESBQoDEgFOQgIQEQ==';
const MODEL = Buffer.from(BASE64, 'base64');
const KEY = 'rehearsal';
const RUNS = 20;

/**
 * Lives the life of a replica from its hello to its last message, with a model of its own and nobody to hear it. Code that
 * has run before is quicker, and onnxruntime prepares much at the first session: a spare process that has done this has
 * its first answer ready in half the time.
 *
 * @param isOver whether the process is needed now.
 * @throws InfermuxError when this process could not be a replica.
 */
export async function rehearse(isOver: () => boolean): Promise<void> {
  const { memory, slot, own } = new ToldCounters();
  const shared = { counters: memory, counterSlot: slot, fileHashes: hashMemory(1) };
  const handler = new MessageHandler(
    { ...SETTINGS, ...shared },
    own,
    () => undefined,
    memoryOfProcess(() => undefined),
  );
  const say = async (message: ReplicaMessage) => {
    const { answer } = await handler.handle(copyThroughFrame(message) as ReplicaMessage);
    if ('error' in answer) throw fromErrorRecord(answer.error);
    writeFrame({ id: 0, answer }, [0, 0, 0]);
  };
  await say({ kind: 'hello' });
  for (let run = 0; run < RUNS && !isOver(); run += 1) await say(runOf(run));
  await say({ kind: 'release' });
}

const SETTINGS: Omit<WorkerSettings, 'counters' | 'counterSlot' | 'fileHashes'> = {
  ...{ replica: KEY, eviction: 'lru', maxModels: 1, maxModelBytes: -1, modelIdleTimeoutMs: -1, session: {} },
  ...{
    device: undefined,
    weights: 'private',
    weightStore: { directory: join(tmpdir(), `infermux-${KEY}`), maxBytes: 1 },
  },
  ...{ handler: undefined, userConfig: undefined, isExpress: false },
  handlerTimeouts: { loadModelMs: 1, disposeMs: 1, reconfigureMs: 1 },
};

/** A run of one request, or of a batch of two. */
function runOf(run: number): ReplicaMessage {
  const contents = new SharedBytes(new SharedArrayBuffer(MODEL.length));
  contents.set(MODEL);
  const reference = { key: KEY, id: KEY, path: KEY, bytes: MODEL.length };
  const definition = { ...reference, contents: contents as unknown as SharedArrayBuffer };
  const x: Tensor = { type: 'float32', dims: [1], data: Float32Array.of(run) };
  const feeds = run % 2 === 0 ? [{ x }] : [{ x }, { x }];
  const content = { feeds, joined: feeds.length > 1, outputs: undefined, checked: false, hasApart: false };
  const { groups } = packGroups([content]);
  return {
    kind: 'run',
    model: KEY,
    definition: run === 0 ? definition : undefined,
    groups,
    spare: undefined,
    verify: false,
  };
}
