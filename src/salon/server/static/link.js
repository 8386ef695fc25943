// What a link to pictures holds: prompt, seed, how many, and the version of every model that drew them.
// It stands behind the #, so that no prompt gets into a server's log.

const VERSION = "v.";

export function writeLink({ prompt, seed, count, versions }) {
  const query = new URLSearchParams({ prompt, seed, count });
  for (const [method, version] of Object.entries(versions)) query.set(VERSION + method, version);
  return `#${query}`;
}

// null for a link that asks for nothing
export function readLink(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const prompt = query.get("prompt");
  if (!prompt) return null;
  const versions = {};
  for (const [key, value] of query) if (key.startsWith(VERSION)) versions[key.slice(VERSION.length)] = value;
  return { prompt, seed: wholeNumber(query.get("seed")), count: wholeNumber(query.get("count")) ?? 1, versions };
}

export function wholeNumber(text) {
  return /^\d{1,15}$/.test(text ?? "") ? Number(text) : null;
}

// Sentences on what serves now and did not draw the linked pictures; none where all is as it was.
export function changes(linked, now) {
  const gone = Object.keys(linked).filter((method) => !(method in now));
  const other = Object.keys(linked).filter((method) => method in now && now[method] !== linked[method]);
  const fresh = Object.keys(now).filter((method) => !(method in linked));
  return [
    ...other.map((method) => `The link was made with version ${linked[method]} of ${method}; version ${now[method]} serves now and draws otherwise.`),
    ...(gone.length ? [`No longer served, though the link was made with it: ${gone.join(", ")}.`] : []),
    ...(fresh.length ? [`Not served yet when the link was made: ${fresh.join(", ")}.`] : []),
  ];
}
