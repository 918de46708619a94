import type { ValueMetadata } from '../../index.js';

/** A model, as its declaration shows it. */
export interface DeclaredModel {
  readonly id: string;
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
}

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/** Returns the TypeScript module that declares the models as an interface `Models`. */
export function declarationsOf(models: readonly DeclaredModel[]): string {
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

function modelLines({ id, inputs, outputs }: DeclaredModel): string[] {
  return [
    `  ${key(id)}: {`,
    ...valueLines('inputs', 'FeedOf', inputs),
    ...valueLines('outputs', 'TensorOf', outputs),
    '  };',
  ];
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
