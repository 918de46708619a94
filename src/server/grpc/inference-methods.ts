import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { InfermuxError } from '../../index.js';
import { refusal } from '../../open-inference/error-statuses.js';
import { modelConfigOf } from '../inference/model-config.js';
import { targetOf } from '../inference/served-names.js';
import { serverMetadata } from '../inference/server-metadata.js';
import type { ServerParts } from '../server-parts.js';
import type { Calls } from './calls.js';
import type { InferCalls } from './infer-calls.js';

interface Named {
  readonly name: string;
  readonly version: string;
}

/** A value of a parameter, as the loader tells it. */
interface Choice {
  readonly parameter_choice?: string;
  readonly [choice: string]: unknown;
}

interface RepositoryRequest {
  readonly repository_name: string;
  readonly model_name: string;
  readonly parameters: Readonly<Record<string, Choice>>;
}

/** The methods of the service, by their names. @param hasAdmin whether the admin part is here. */
export function inferenceMethods(
  parts: ServerParts,
  calls: Calls,
  infer: InferCalls,
  hasAdmin: boolean,
): UntypedServiceImplementation {
  const { names, repository, statistics, logSettings } = parts;
  const admin = <Request, Answer>(method: string, answer: (request: Request) => Answer | Promise<Answer>) =>
    calls.unary(method, 'admin', (request: Request) => {
      if (!hasAdmin) throw refusal('unsupported', 'the admin part is switched off here');
      return answer(request);
    });
  const read = <Request, Answer>(method: string, answer: (request: Request) => Answer | Promise<Answer>) =>
    calls.unary(method, 'inference', (request: Request) => answer(request));
  const about = serverMetadata(hasAdmin);
  return {
    ServerLive: calls.unary('ServerLive', 'health', () => ({ live: true })),
    ServerReady: calls.unary('ServerReady', 'health', () => ({ ready: parts.isReady })),
    ModelReady: read('ModelReady', async ({ name, version }: Named) => ({
      ready: !parts.isDraining && (await names.isReady(targetOf(name, version))),
    })),
    ServerMetadata: read('ServerMetadata', () => about),
    ModelMetadata: read('ModelMetadata', ({ name, version }: Named) => names.metadata(name, given(version))),
    ModelInfer: calls.unary('ModelInfer', 'inference', (...given: Parameters<InferCalls['infer']>) =>
      infer.infer(...given),
    ),
    ModelStreamInfer: calls.duplex('ModelStreamInfer', 'inference', (call: Parameters<InferCalls['stream']>[0]) =>
      infer.stream(call),
    ),
    ModelConfig: read('ModelConfig', async ({ name, version }: Named) => {
      const inspection = await names.inspect(name, given(version));
      return { config: modelConfigOf(name, inspection, names.versionsOf(inspection.id)) };
    }),
    ModelStatistics: read('ModelStatistics', async ({ name, version }: Named) => ({
      model_stats: await statistics.of(name, given(version)),
    })),
    RepositoryIndex: admin(
      'RepositoryIndex',
      async ({ repository_name, ready }: RepositoryRequest & { ready: boolean }) => {
        checkRepository(repository_name);
        return { models: await repository.index(ready) };
      },
    ),
    RepositoryModelLoad: admin('RepositoryModelLoad', async (request: RepositoryRequest) => {
      checkRepository(request.repository_name);
      await repository.load(request.model_name, valuesOf(request.parameters));
      return {};
    }),
    RepositoryModelUnload: admin('RepositoryModelUnload', async (request: RepositoryRequest) => {
      checkRepository(request.repository_name);
      await repository.unload(request.model_name);
      return {};
    }),
    LogSettings: admin('LogSettings', ({ settings }: { settings: Readonly<Record<string, Choice>> }) => {
      const wanted = valuesOf(settings);
      return {
        settings: settingsOf(Object.keys(wanted).length === 0 ? logSettings.read() : logSettings.change(wanted)),
      };
    }),
  };
}

const given = (version: string) => (version === '' ? undefined : version);

function checkRepository(name: string): void {
  if (name === '') return;
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `there is one repository, which has no name; got ${JSON.stringify(name)}`,
  );
}

function valuesOf(choices: Readonly<Record<string, Choice>>): Record<string, unknown> {
  const choiceOf = (choice: Choice) =>
    choice.parameter_choice === undefined ? undefined : choice[choice.parameter_choice];
  return Object.fromEntries(Object.entries(choices).map(([name, choice]) => [name, choiceOf(choice)]));
}

function settingsOf(state: object): Record<string, Record<string, unknown>> {
  const choices: Readonly<Record<string, string>> = {
    boolean: 'bool_param',
    number: 'uint32_param',
    string: 'string_param',
  };
  return Object.fromEntries(
    Object.entries(state).map(([name, value]) => [name, { [choices[typeof value] as string]: value }]),
  );
}
