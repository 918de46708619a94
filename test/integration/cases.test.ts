import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine, type InfermuxError } from '../../dist/index.js';
import { areSharedModelsHere, difference, readSharedCases, SHARED_MODELS } from '../support/shared-models.js';

const cases = readSharedCases();

describe.skipIf(!areSharedModelsHere)(
  `real models (${areSharedModelsHere ? 'here' : `absent: ${SHARED_MODELS}`})`,
  () => {
    let engine: InferenceEngine;

    beforeAll(async () => {
      engine = await createEngine({
        models: Object.fromEntries(cases.map(({ id, path }) => [id, path])),
        replicas: 2,
        maxModelsPerReplica: 4,
      });
    });

    afterAll(() => engine.close());

    it('give the expected outputs on two replicas, all cases at once, three times over', async () => {
      const runs = cases.flatMap(({ id, sets }) => sets.map((set, index) => ({ id, index, ...set })));
      expect(runs.length).toBeGreaterThanOrEqual(cases.length);
      const wrong: string[] = [];
      const replicas = new Set<string>();
      const run = async ({ id, index, feeds, expected }: (typeof runs)[number]) => {
        const result = await engine.infer({ target: id, feeds });
        replicas.add(result.replica);
        for (const [name, tensor] of Object.entries(expected)) {
          const found = difference(result.outputs[name], tensor);
          if (found !== undefined) wrong.push(`${id}, set ${index}: ${name} ${found}`);
        }
      };
      await Promise.all([...runs, ...runs, ...runs].map(run));
      expect(wrong).toEqual([]);
      expect([...replicas].filter((id) => !id.endsWith('-express'))).toHaveLength(2);
    });

    it('give the same in batches, which every model may form that has a free first dimension', async () => {
      const batching = { maxWaitMs: 5 };
      const batched = await createEngine({
        models: Object.fromEntries(cases.map(({ id, path }) => [id, { path, batching }])),
        replicas: 1,
        maxModelsPerReplica: -1,
      });
      const wrong: string[] = [];
      const sizes = new Map<string, number>();
      try {
        for (let round = 0; round < 4; round += 1) {
          for (const { id, sets } of cases) {
            const runs = Array.from({ length: 12 }, (_, index) => sets[index % sets.length] as (typeof sets)[number]);
            const answers = await Promise.all(runs.map(({ feeds }) => batched.infer({ target: id, feeds })));
            for (const [index, { outputs, batchSize }] of answers.entries()) {
              sizes.set(id, Math.max(sizes.get(id) ?? 0, batchSize));
              for (const [name, tensor] of Object.entries(runs[index]?.expected ?? {})) {
                const found = difference(outputs[name], tensor);
                if (found !== undefined) wrong.push(`${id}, batch of ${batchSize}: ${name} ${found}`);
              }
            }
          }
        }
      } finally {
        await batched.close();
      }
      expect(wrong).toEqual([]);
      expect([...sizes.values()].filter((size) => size > 1).length).toBeGreaterThanOrEqual(3);
    });

    it.each(cases)('$id returns just the outputs asked for', async ({ id, outputs, sets }) => {
      const [wanted] = outputs as [string];
      const answer = await engine.run(id, sets[0]?.feeds ?? {}, { outputs: [wanted] });
      expect(Object.keys(answer)).toEqual([wanted]);
    });

    it('that are broken are refused with the reason, and the engine goes on', async () => {
      const kinds = ['corrupt', 'invalid'];
      const files = kinds.flatMap((kind) =>
        readdirSync(`${SHARED_MODELS}/negative/${kind}`).map(
          (name) => [`${kind}/${name}`, `${SHARED_MODELS}/negative/${kind}/${name}`] as const,
        ),
      );
      const broken = await createEngine({ models: Object.fromEntries(files), replicas: 2 });
      try {
        const codes = await Promise.all(
          files.map(([id]) =>
            broken.run(id, {}).then(
              () => 'answered',
              ({ code, message }: InfermuxError) => (message.includes(id) ? code : `${id}: ${message}`),
            ),
          ),
        );
        // onnxruntime loads some of them after all; then inputs are missing, or there are none and it answers.
        const allowed = new Set<string>(['answered', 'MODEL_LOAD_FAILED', 'INVALID_ARGUMENT', 'INFERENCE_FAILED']);
        expect(codes.filter((code) => !allowed.has(code))).toEqual([]);
        expect(codes.filter((code) => code === 'MODEL_LOAD_FAILED').length).toBeGreaterThan(30);
        expect(broken.status().replicas.map(({ restarts }) => restarts)).toEqual([0, 0]);
      } finally {
        await broken.close();
      }
    });
  },
);
