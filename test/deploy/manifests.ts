/**
 * Kubernetes' own word on a manifest, without a cluster: types, enums and patterns by the validators of
 * kubernetes-models; fields that nobody knows, which those let pass, by the attribute maps of
 * @kubernetes/client-node and, for custom resources, by the types of their models.
 */
import { join } from 'node:path';
import * as client from '@kubernetes/client-node';
import ts from 'typescript';
import { parseAllDocuments } from 'yaml';
import { PROJECT } from './image.ts';

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: unknown;
  readonly data?: Readonly<Record<string, string>>;
}

/** @throws where the YAML is none, or a document is no manifest */
export const readManifests = (text: string): Manifest[] =>
  parseAllDocuments(text, { uniqueKeys: true, strict: true }).flatMap((document) => {
    const [problem] = document.errors;
    if (problem !== undefined) throw problem;
    const value = document.toJS() as Partial<Manifest> | null;
    if (value === null) return [];
    const { apiVersion, kind, metadata } = value;
    if (apiVersion === undefined || kind === undefined || metadata?.name === undefined) {
      throw new Error(`no manifest: ${JSON.stringify(value).slice(0, 200)}`);
    }
    return [value as Manifest];
  });

interface Model {
  validate(): void;
}
type Models = Readonly<Record<string, (new (data: Manifest) => Model) | undefined>>;

const CUSTOM: Readonly<Record<string, string>> = {
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
  'postgresql.cnpg.io': '@kubernetes-models/cloudnative-pg',
};
const packageOf = (apiVersion: string): string =>
  `${CUSTOM[apiVersion.split('/')[0] ?? ''] ?? 'kubernetes-models'}/${apiVersion}`;
const isCustom = ({ apiVersion }: Manifest): boolean =>
  CUSTOM[apiVersion.split('/')[0] ?? ''] !== undefined;
const nameOf = ({ kind, metadata: { name } }: Manifest): string => `${kind} ${name}`;

const invalid = async (manifest: Manifest): Promise<string[]> => {
  const models = (await import(packageOf(manifest.apiVersion))) as Models;
  const Kind = models[manifest.kind];
  if (Kind === undefined) return [`${nameOf(manifest)}: no such kind`];
  try {
    new Kind(manifest).validate();
    return [];
  } catch (error) {
    return [`${nameOf(manifest)}: ${error instanceof Error ? error.message : 'invalid'}`];
  }
};

interface Attribute {
  readonly baseName: string;
  readonly type: string;
}
interface Attributed {
  getAttributeTypeMap(): readonly Attribute[];
}
const TYPES = client as unknown as Readonly<Record<string, Partial<Attributed> | undefined>>;

/** Paths of fields that `type` does not have, below `value`. */
const unknownBelow = (value: unknown, type: string, path: string): string[] => {
  const [, item] = /^Array<(.+)>$/u.exec(type) ?? [];
  if (item !== undefined && Array.isArray(value)) {
    return value.flatMap((one, index) => unknownBelow(one, item, `${path}[${index}]`));
  }
  if (typeof value !== 'object' || value === null) return [];
  const [, values] = /^\{ \[key: string\]: (.+); \}$/u.exec(type) ?? [];
  if (values !== undefined) {
    return Object.entries(value).flatMap(([key, one]) =>
      unknownBelow(one, values, `${path}.${key}`),
    );
  }
  const attributes = TYPES[type]?.getAttributeTypeMap?.();
  // `object` and `any` take everything; whatever else holds fields has a map.
  if (attributes === undefined) return ['object', 'any'].includes(type) ? [] : [`${path}: ${type}`];
  return Object.entries(value).flatMap(([key, one]) => {
    const found = attributes.find(({ baseName }) => baseName === key);
    return found === undefined
      ? [`${path}.${key}`]
      : unknownBelow(one, found.type, `${path}.${key}`);
  });
};

const unknownFields = (manifest: Manifest): string[] =>
  unknownBelow(manifest, `V1${manifest.kind}`, manifest.kind).map(
    (path) => `${nameOf(manifest)}: unknown field ${path}`,
  );

/** The compiler's word on custom resources as literals of their models' types. */
const wronglyTyped = (manifests: readonly Manifest[]): string[] => {
  if (manifests.length === 0) return [];
  const at = join(PROJECT, 'test/deploy/custom-resources.ts');
  const source = manifests
    .map(
      (manifest, index) =>
        `import type { I${manifest.kind} as K${index} } from '${packageOf(manifest.apiVersion)}';\n` +
        `export const m${index}: K${index} = ${JSON.stringify(manifest)};`,
    )
    .join('\n');
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
  };
  const base = ts.createCompilerHost(options);
  const host: ts.CompilerHost = {
    ...base,
    fileExists: (name) => name === at || base.fileExists(name),
    getSourceFile: (name, version, onError) =>
      name === at
        ? ts.createSourceFile(name, source, version)
        : base.getSourceFile(name, version, onError),
  };
  return ts
    .getPreEmitDiagnostics(ts.createProgram([at], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '));
};

/** What is wrong with the manifests; nothing when all is well. */
export const problemsOf = async (manifests: readonly Manifest[]): Promise<string[]> => [
  ...(await Promise.all(manifests.map(invalid))).flat(),
  ...manifests.filter((one) => !isCustom(one)).flatMap(unknownFields),
  ...wronglyTyped(manifests.filter(isCustom)),
];
