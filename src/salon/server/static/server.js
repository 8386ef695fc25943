// The page's side of HTTP: JSON in, JSON out, and every failure as one sentence for people.

const TOKEN = "salon.token";

export class Problem extends Error {
  constructor(sentence, { status = 0, retrySeconds = null } = {}) {
    super(sentence);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export async function ask(path, body, signal) {
  const headers = { Accept: "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: body && JSON.stringify(body), signal });
  } catch {
    throw new Problem("The server does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw refusal(response, answer?.message);
}

function refusal(response, message) {
  const status = response.status;
  const said = message ? sentence(message) : null;
  if (status === 401 || status === 403) return new Problem(said ?? "This server asks for a token.", { status });
  if (status === 503 || status === 429) {
    const retrySeconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10) || 3;
    return new Problem(said ?? "The server is busy.", { status, retrySeconds });
  }
  if (status >= 400 && status < 500) return new Problem(said ?? "The server refuses this request.", { status });
  return new Problem(`The server failed (${status}); its log says why.`, { status });
}

// The page sends one row: its number says nothing to a visitor.
function sentence(message) {
  const text = message.trim().replace(/^row 1: /, "");
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
