import { type DynamicModule, Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import { createEngine, type EngineOptions, type InferenceEngine } from 'infermux';

/** Inject the engine by this name. */
export const ENGINE = Symbol('infermux');

/** One engine for the application: it starts with it, and closes when it ends. */
@Module({})
export class InfermuxModule implements OnApplicationShutdown {
  readonly #engine: InferenceEngine;

  constructor(@Inject(ENGINE) engine: InferenceEngine) {
    this.#engine = engine;
  }

  static forRoot(options: EngineOptions): DynamicModule {
    const provider = { provide: ENGINE, useFactory: () => createEngine(options) };
    return { module: InfermuxModule, global: true, providers: [provider], exports: [ENGINE] };
  }

  onApplicationShutdown(): Promise<void> {
    return this.#engine.close();
  }
}
