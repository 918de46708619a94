import type { ValueMetadata } from '../../index.js';

/** A version of a model, as its declaration shows it. */
export interface DeclaredModel {
  readonly id: string;
  readonly version: number;
  /** Whether requests that name no version go to it. */
  readonly isDefault: boolean;
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
}

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/**
 * Returns the TypeScript module that declares the models as an interface `Models`. A version that is not the default
 * one has an entry of its own if it takes or gives something else.
 */
export function declarationsOf(versions: readonly DeclaredModel[]): string {
  const defaults = versions.filter(({ isDefault }) => isDefault);
  const known = new Map(defaults.map((model) => [model.id, valuesOf(model).join('\n')]));
  const others = versions.filter((model) => !model.isDefault && valuesOf(model).join('\n') !== known.get(model.id));
  const models = [...defaults, ...others];
  const used = new Set(
    models.flatMap(({ inputs, outputs }) => [inputs.length && 'FeedOf', outputs.length && 'TensorOf']),
  );
  const imported = ['FeedOf', 'TensorOf'].filter((name) => used.has(name));
  return [
    '// Written by `infermux types`. Run it again when the models change.',
    ...(imported.length === 0 ? [] : [`import type { ${imported.join(', ')} } from "infermux";`]),
    '',
    '/** The models, for `createEngine<Models>(…)` and `connect<Models>(…)`. */',
    'export interface Models {',
    ...models.flatMap(modelLines),
    '}',
    '',
  ].join('\n');
}

function modelLines(model: DeclaredModel): string[] {
  const { id, version, isDefault } = model;
  return [`  ${key(isDefault ? id : `${id}@${version}`)}: {`, ...valuesOf(model), '  };'];
}

function valuesOf({ inputs, outputs }: DeclaredModel): string[] {
  return [...valueLines('inputs', 'FeedOf', inputs), ...valueLines('outputs', 'TensorOf', outputs)];
}

function valueLines(what: string, type: string, values: readonly ValueMetadata[]): string[] {
  if (values.length === 0) return [`    ${what}: Record<never, never>;`];
  return [
    `    ${what}: {`,
    ...values.flatMap((value) => [
      ...(value.shape.length === 0 ? [] : [`      /** ${comment(shapeOf(value))} */`]),
      `      ${key(value.name)}: ${type}<"${value.type}">;`,
    ]),
    '    };',
  ];
}

function shapeOf({ shape }: ValueMetadata): string {
  return `[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
}

/** A name, as a property. */
function key(name: string): string {
  return IDENTIFIER.test(name) ? name : JSON.stringify(name);
}

/** A model's file names its dimensions: such a name may be anything. */
function comment(text: string): string {
  return JSON.stringify(text).slice(1, -1).replaceAll('*/', '*\\/');
}
