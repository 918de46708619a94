/** The page. Its addresses are relative, so that it may be mounted anywhere. */
export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>infermux</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="uplot.css">
<link rel="stylesheet" href="style.css">
<script src="uplot.js" defer></script>
<script src="app.js" type="module"></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1><a href="#/">infermux</a></h1>
<p id="state" role="status">connecting</p>
<nav aria-label="Parts of the page">
<a href="#/">Overview</a>
<a href="#/models">Models</a>
<a href="#/replicas">Replicas</a>
<a href="#/events">Events</a>
</nav>
</header>
<div id="login"></div>
<main id="main" tabindex="-1"></main>
<noscript>This page needs JavaScript.</noscript>
</body>
</html>
`;
