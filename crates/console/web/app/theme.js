// Sets the theme before anything is drawn: a classic script, so that it blocks.
// `light`, `dark`, or nothing, which follows the system.
(() => {
  try {
    const theme = localStorage.getItem("ms-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage is off: the system decides */ }
})();
