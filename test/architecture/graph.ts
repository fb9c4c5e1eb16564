/**
 * Reads TypeScript sources into what the architecture rules speak about: import edges and a few
 * syntactic facts. Works on text handed to it, so that the rules can be tried on planted sources.
 */
import ts from 'typescript';

export interface Edge {
  readonly from: string;
  /** A path like `crypto/kem.ts` for our own files, a package's name, or `node:…`. */
  readonly to: string;
  readonly kind: 'own' | 'package' | 'builtin';
  readonly typeOnly: boolean;
  /** Loaded by URL into another thread or process, hence no part of an import cycle. */
  readonly entry: boolean;
}

export interface SourceFacts {
  readonly path: string;
  readonly lines: number;
  readonly edges: readonly Edge[];
  /** Complaints that need no other file: default export, `any`, `!`, barrel, … */
  readonly complaints: readonly string[];
  readonly readsEnvironment: boolean;
  /** Looks a suite up by its id: calls `findSuite` or indexes `SUITES`. */
  readonly resolvesSuites: boolean;
}

const packageName = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');

const resolveRelative = (from: string, specifier: string): string => {
  const parts = from.split('/').slice(0, -1);
  for (const step of specifier.split('/')) {
    if (step === '..') parts.pop();
    else if (step !== '.') parts.push(step);
  }
  return parts.join('/');
};

const edgeOf = (from: string, specifier: string, typeOnly: boolean, entry = false): Edge => {
  if (specifier.startsWith('.')) {
    return { from, to: resolveRelative(from, specifier), kind: 'own', typeOnly, entry };
  }
  if (specifier.startsWith('node:'))
    return { from, to: specifier, kind: 'builtin', typeOnly, entry };
  return { from, to: packageName(specifier), kind: 'package', typeOnly, entry };
};

const isProcessEnv = (node: ts.Node): boolean =>
  ts.isPropertyAccessExpression(node) &&
  node.name.text === 'env' &&
  ts.isIdentifier(node.expression) &&
  node.expression.text === 'process';

const importsEnv = (node: ts.Node): boolean =>
  ts.isImportDeclaration(node) &&
  ts.isStringLiteral(node.moduleSpecifier) &&
  node.moduleSpecifier.text === 'node:process' &&
  /\benv\b/u.test(node.importClause?.getText() ?? '');

const resolvesSuite = (node: ts.Node): boolean =>
  (ts.isIdentifier(node) && node.text === 'findSuite') ||
  (ts.isElementAccessExpression(node) && /(?:^|\.)SUITES$/u.test(node.expression.getText()));

const isEntryUrl = (node: ts.Node): node is ts.NewExpression & { arguments: [ts.StringLiteral] } =>
  ts.isNewExpression(node) &&
  node.expression.getText() === 'URL' &&
  node.arguments?.[1]?.getText() === 'import.meta.url' &&
  ts.isStringLiteral(node.arguments[0] ?? node) &&
  /\.ts$/u.test((node.arguments[0] as ts.StringLiteral).text);

const edgeAt = (path: string, node: ts.Node): Edge | undefined => {
  if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
    const typeOnly = node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword;
    return edgeOf(path, node.moduleSpecifier.text, typeOnly);
  }
  if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
    return edgeOf(path, (node.moduleSpecifier as ts.StringLiteral).text, node.isTypeOnly);
  }
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    const [argument] = node.arguments;
    if (argument !== undefined && ts.isStringLiteral(argument)) {
      return edgeOf(path, argument.text, false);
    }
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    return edgeOf(path, (node.argument.literal as ts.StringLiteral).text, true);
  }
  return isEntryUrl(node) ? edgeOf(path, node.arguments[0].text, false, true) : undefined;
};

const complaintAt = (node: ts.Node): string | undefined => {
  if (ts.isExportAssignment(node)) return 'default export';
  if (ts.canHaveModifiers(node)) {
    const modifiers = ts.getModifiers(node) ?? [];
    if (modifiers.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword))
      return 'default export';
  }
  if (ts.isExportSpecifier(node) && node.name.text === 'default') return 'default export';
  if (ts.isExportDeclaration(node) && node.exportClause === undefined) return 'export * (barrel)';
  if (node.kind === ts.SyntaxKind.AnyKeyword) return '`any`';
  if (ts.isNonNullExpression(node)) return 'non-null `!`';
  if (ts.isPropertyDeclaration(node) && node.exclamationToken) return 'definite assignment `!`';
  if (ts.isClassDeclaration(node) && /(?:Manager|Impl|Helper)$/u.test(node.name?.text ?? '')) {
    return `class name ${node.name?.text ?? ''} says nothing`;
  }
  return undefined;
};

const isBarrel = (file: ts.SourceFile): boolean =>
  file.statements.length > 0 &&
  file.statements.every(
    (statement) => ts.isExportDeclaration(statement) && statement.moduleSpecifier !== undefined,
  );

const commentComplaints = (text: string): string[] => {
  const found: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const at = `line ${index + 1}`;
    if (/\bTODO\b(?!\(#\d+\))/u.test(line)) found.push(`${at}: bare TODO`);
    if (/eslint-disable|@ts-(?:ignore|nocheck)/u.test(line) && !/ -- \S/u.test(line)) {
      found.push(`${at}: a disable comment without its reason`);
    }
  }
  return found;
};

/** Facts of one file; `path` is relative to `src/`. */
export const readSource = (path: string, text: string): SourceFacts => {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const edges: Edge[] = [];
  const complaints = commentComplaints(text);
  let readsEnvironment = false;
  let resolvesSuites = false;
  const visit = (node: ts.Node): void => {
    const edge = edgeAt(path, node);
    if (edge !== undefined) edges.push(edge);
    const complaint = complaintAt(node);
    if (complaint !== undefined) {
      const { line } = file.getLineAndCharacterOfPosition(node.getStart());
      complaints.push(`line ${line + 1}: ${complaint}`);
    }
    readsEnvironment ||= isProcessEnv(node) || importsEnv(node);
    resolvesSuites ||= resolvesSuite(node);
    ts.forEachChild(node, visit);
  };
  visit(file);
  if (isBarrel(file) || /(?:^|\/)index\.ts$/u.test(path)) complaints.push('barrel file');
  const lines = text.split('\n').length - 1;
  return { path, lines, edges, complaints, readsEnvironment, resolvesSuites };
};
