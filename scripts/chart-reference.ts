/** The reference page of the chart's values, written from values.schema.json and values.yaml. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

const CHART = join(import.meta.dirname, '../deploy/helm/twofold');

interface Schema {
  readonly $ref?: string;
  readonly description?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
}

export const chartSchema = JSON.parse(
  readFileSync(join(CHART, 'values.schema.json'), 'utf8'),
) as Schema;
const defaults: unknown = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'));

const at = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null
    ? (value as Readonly<Record<string, unknown>>)[key]
    : undefined;

const typeOf = ({ type, enum: values, minimum, maximum }: Schema): string => {
  if (values !== undefined) return values.join(' \\| ');
  if (minimum !== undefined) return `${minimum} … ${maximum ?? ''}`;
  return typeof type === 'string' ? (type === 'array' ? 'list' : type) : 'any';
};

const code = (text: string): string => `\`${text}\``;
/** The objects that are settings of their own, not free maps or whole sections. */
const isSection = ({ properties }: Schema): boolean => properties !== undefined;

const rowsOf = (schema: Schema, path: string, value: unknown): string[] => {
  if (isSection(schema)) {
    const inner = Object.entries(schema.properties ?? {}).flatMap(([name, child]) =>
      rowsOf(child, path === '' ? name : `${path}.${name}`, at(value, name)),
    );
    if (path === '') return inner;
    return [`| **${code(path)}** | | | ${schema.description ?? ''} |`, ...inner];
  }
  const shown = value === undefined ? '' : code(JSON.stringify(value));
  return [`| ${code(path)} | ${typeOf(schema)} | ${shown} | ${schema.description ?? ''} |`];
};

const INTRODUCTION = `# Values of the chart

Generated from \`values.schema.json\` and \`values.yaml\` by \`npm run generate\`; do not edit. Any other value is refused.
[README.md](README.md) says how they go together, [examples/](examples) has three whole sets.
`;

/** The whole page in Markdown. */
export const chartReference = (): string =>
  [
    INTRODUCTION,
    '| value | type | default | meaning |',
    '| --- | --- | --- | --- |',
    ...rowsOf(chartSchema, '', defaults),
    '',
  ].join('\n');

/** Every object of the schema that has properties, and whether it refuses others. */
export const openObjects = (schema: Schema, path = ''): string[] => {
  const { properties = {}, items, additionalProperties } = schema;
  const own = schema.properties !== undefined && additionalProperties !== false ? [path] : [];
  return [
    ...own,
    ...Object.entries(properties).flatMap(([name, child]) => openObjects(child, `${path}.${name}`)),
    ...(items === undefined ? [] : openObjects(items, `${path}[]`)),
  ];
};
