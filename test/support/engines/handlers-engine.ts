import type { Logger } from 'pino';
import {
  createEngine,
  type DeploymentOptions,
  type InferenceEngine,
  type InfermuxError,
  type RunOptions,
} from '../../../dist/index.js';
import { modelDirectory, scaleModel } from '../onnx-models.js';

export const models = modelDirectory({
  ...Object.fromEntries([1, 2, 3].map((factor) => [`times-${factor}`, scaleModel(factor)])),
});
export const HANDLER = new URL('../handler.mjs', import.meta.url);
export const OWN_MODELS = new URL('../own-models-handler.mjs', import.meta.url);
export const x = Float32Array.of(5, 0, 0, 0);

/** Starts an engine whose one deployment is `app`: of {@link HANDLER}, unless the options name another handler. */
export function startHandler(options: DeploymentOptions = {}, logger?: Logger): Promise<InferenceEngine> {
  const app: DeploymentOptions = { handler: HANDLER, ...options };
  return createEngine({ models, replicas: 0, deployments: { app }, ...(logger && { logger }) });
}

/** Sends requests to handlers of the engine of the moment. */
export const requestsTo =
  (engine: () => InferenceEngine) =>
  <Answer = unknown>(request: unknown, target = 'app', options: RunOptions = {}) =>
    engine().run<unknown>(target, request, options) as Promise<Answer>;

/** Resolves to what a call resolves to, or to the code and the message of its error. */
export const outcome = (promise: Promise<unknown>) =>
  promise.then(
    (answer) => answer,
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );
