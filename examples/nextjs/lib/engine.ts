import { createEngine, type InferenceEngine } from 'infermux';

// Next.js loads modules again when they change: the engine stays.
const kept = globalThis as { engine?: Promise<InferenceEngine> };

/** The engine of this process, which starts with the first request. */
export function getEngine(): Promise<InferenceEngine> {
  kept.engine ??= createEngine({ models: 'node_modules/infermux/native-models' });
  return kept.engine;
}
