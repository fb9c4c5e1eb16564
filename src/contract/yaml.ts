/**
 * Plain data as YAML 1.2 in block style. Every text is double-quoted (a JSON string is a YAML one),
 * so that no value is mistaken for another type; names stay bare where that is safe.
 */

const BARE_NAME = /^[A-Za-z_$/][A-Za-z0-9_$./{}-]*$/;
/** What YAML 1.1 readers take for booleans or null. */
const RESERVED = /^(?:y|n|yes|no|on|off|true|false|null|~)$/i;

const nameOf = (name: string) =>
  BARE_NAME.test(name) && !RESERVED.test(name) ? name : JSON.stringify(name);

function isBlock(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.keys(value).length > 0;
}

function scalar(value: unknown): string {
  if (Array.isArray(value)) return '[]';
  return typeof value === 'object' && value !== null ? '{}' : JSON.stringify(value);
}

function lines(value: object, indent: string): string[] {
  if (Array.isArray(value)) {
    return value.flatMap((item: unknown) => {
      if (!isBlock(item)) return [`${indent}- ${scalar(item)}`];
      const [first = '', ...rest] = lines(item, `${indent}  `);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  return Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .flatMap(([name, member]: [string, unknown]) =>
      isBlock(member)
        ? [`${indent}${nameOf(name)}:`, ...lines(member, `${indent}  `)]
        : [`${indent}${nameOf(name)}: ${scalar(member)}`],
    );
}

/** The YAML text of an object, with a final line feed. */
export const toYaml = (value: object): string => `${lines(value, '').join('\n')}\n`;
