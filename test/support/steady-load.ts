import type { InferenceEngine } from '../../dist/index.js';

/** Callers that each send a request as soon as the last one is answered, until `stop`. */
export class SteadyLoad {
  answered = 0;
  /** Wrong answers, and codes of errors. */
  readonly wrong: unknown[] = [];
  #isOver = false;
  readonly #callers: Promise<void>[];

  /**
   * @param targets each caller uses one; the first multiplies by 1, the second by 2 and so on.
   * @param engine returns the engine for the next request.
   */
  constructor(engine: () => InferenceEngine, targets: readonly string[], callers = 12) {
    this.#callers = Array.from({ length: callers }, (_, index) => {
      const position = index % targets.length;
      return this.#ask(engine, targets[position] as string, index, position + 1);
    });
  }

  async #ask(engine: () => InferenceEngine, target: string, value: number, factor: number): Promise<void> {
    const x = { dims: [1, 4], data: Float32Array.of(value, 0, 0, 0) };
    while (!this.#isOver) {
      try {
        const { y } = await engine().run(target, { x });
        if (y?.data[0] !== value * factor) this.wrong.push(y?.data[0]);
      } catch (error) {
        this.wrong.push((error as { code?: string }).code ?? error);
        // A refusal comes at once, and an immediate retry would block the event loop for ever.
        await new Promise(setImmediate);
      }
      this.answered += 1;
    }
  }

  /** Resolves when all requests are answered, with the wrong answers. */
  async stop(): Promise<unknown[]> {
    this.#isOver = true;
    await Promise.all(this.#callers);
    return this.wrong;
  }
}
