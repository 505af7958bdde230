const HEADER = `<header>
<h1><img src="page/icon.svg" alt="" width="22" height="22"> Octavo <small id="version"></small></h1>
<nav class="views" aria-label="Views">
<button type="button" data-show="chat" aria-pressed="true">Chat</button>
<button type="button" data-show="live" aria-pressed="false">Live</button>
</nav>
<p id="state" class="state" role="status" data-state="unknown">connecting</p>
<a href="docs">API</a>
</header>`;

const CHAT = `<section id="chat" aria-label="Chat">
<div class="toolbar">
<label class="pick" for="model">Model <select id="model"></select></label>
<span id="context" class="quiet"></span>
<span class="space"></span>
<button type="button" id="toggle" aria-expanded="false" aria-controls="settings">Settings</button>
<button type="button" id="copy" disabled>Copy chat</button>
<button type="button" id="fresh" disabled>New chat</button>
</div>
<div id="settings" hidden>
<label class="wide" for="system">System prompt <textarea id="system" rows="2"></textarea></label>
<label for="temperature">Temperature <input id="temperature" type="number" min="0" step="any" placeholder="server's"></label>
<label for="max-tokens">Max tokens <input id="max-tokens" type="number" min="1" step="1" placeholder="server's"></label>
<label for="seed">Seed <input id="seed" type="number" step="1" placeholder="random"></label>
<label class="wide" for="tools">Tools, a JSON list <textarea id="tools" class="code" rows="3" spellcheck="false" placeholder='[{"type": "function", "function": {"name": "...", "parameters": {...}}}]'></textarea></label>
</div>
<form id="key-form" class="ask" hidden>
<label for="key">This server asks for an API key <input id="key" type="password" autocomplete="off" required></label>
<button type="submit">Use key</button>
<p class="quiet">Kept for this tab only, until it is closed.</p>
</form>
<div id="messages" tabindex="0" role="region" aria-label="Conversation"></div>
<form id="composer">
<label class="unseen" for="prompt">Message</label>
<textarea id="prompt" rows="1" placeholder="Message" aria-describedby="keys"></textarea>
<button type="submit" id="send">Send</button>
<button type="button" id="stop" hidden>Stop</button>
<p id="keys" class="quiet">Enter sends, Shift + Enter starts a new line. The conversation stays in this tab's memory.</p>
</form>
</section>`;

const LIVE = `<section id="live" aria-label="Live figures of the server">
<div class="toolbar">
<h2>Live</h2>
<span id="freshness" class="quiet"></span>
<span class="space"></span>
<button type="button" id="pause" aria-pressed="false">Pause</button>
</div>
<form id="metrics-key-form" class="ask" hidden>
<label for="metrics-key">/metrics asks for its key <input id="metrics-key" type="password" autocomplete="off" required></label>
<button type="submit">Use key</button>
</form>
<p id="live-notice" class="notice" hidden></p>
<div id="figures" hidden></div>
</section>`;

/** The page at /. Every URL is relative, so that it works below a proxy's prefix; it fills itself from the API. */
export const DOCUMENT = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Octavo</title>
<link rel="icon" href="page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="page/style.css">
<script type="module" src="page/main.js"></script>
</head>
<body data-view="chat">
<a class="skip" href="#prompt">Skip to the message field</a>
${HEADER}
<main>
${CHAT}
${LIVE}
</main>
<p id="announcer" class="unseen" role="status"></p>
<noscript><p class="notice">This page needs JavaScript. The API does not: see <a href="docs">its description</a>.</p></noscript>
</body>
</html>
`;
