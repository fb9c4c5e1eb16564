/** The configuration's reference page, written from the schema so that it cannot lag behind it. */
import { SETTINGS } from './schema.ts';
import type { Setting } from './schema.ts';
import { OTHER_VARIABLES } from './sources.ts';

const code = (text: string): string => `\`${text}\``;

const defaultOf = ({ defaultValue, path }: Setting): string => {
  if (path === 'issuers') return 'none';
  return defaultValue === undefined ? '' : code(JSON.stringify(defaultValue).replaceAll('"', ''));
};

const row = (setting: Setting): string => {
  const flag = setting.flag === undefined ? '' : code(`--${setting.flag}`);
  const cells = [
    code(setting.path),
    code(setting.env),
    flag,
    setting.type,
    defaultOf(setting),
    setting.description,
  ];
  return `| ${cells.join(' | ')} |`;
};

const INTRODUCTION = `# Configuration

Generated from the schema by \`npm run generate\`; do not edit.

Flags win over environment variables, which win over the file (JSON, named by \`--config\` or
\`TWOFOLD_CONFIG\`). An unknown key, variable of the prefix \`TWOFOLD_\` or flag is refused, and so is a
variable that is set but empty. Paths are relative to the working folder. A secret has no flag, since
arguments are visible to every process. \`twofold config check\` reads everything, the named files
included, and lists all problems at once.
`;

/** The whole page in Markdown. */
export const configReference = (): string => {
  const header =
    '| setting | variable | flag | values | default | meaning |\n| --- | --- | --- | --- | --- | --- |';
  const others = Object.entries(OTHER_VARIABLES).map(([name, text]) => `- ${code(name)}: ${text}`);
  return [
    INTRODUCTION,
    [header, ...SETTINGS.map(row)].join('\n'),
    `\nVariables that are no settings:\n\n${others.join('\n')}\n`,
  ].join('\n');
};
