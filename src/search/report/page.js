(function () {
  var root = document.documentElement, tip = document.createElement('div');
  tip.id = 'tip';
  document.body.appendChild(tip);
  root.classList.add('live');
  // Titles become tips that show at once; without this script the browser shows the titles.
  document.querySelectorAll('svg title').forEach(function (title) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  });
  document.addEventListener('pointerover', function (event) {
    var at = event.target.closest ? event.target.closest('[data-tip]') : null;
    tip.style.display = at ? 'block' : 'none';
    if (at) tip.textContent = at.dataset.tip;
  });
  document.addEventListener('pointermove', function (event) {
    var left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    var top = event.clientY + 16, over = top + tip.offsetHeight - innerHeight;
    tip.style.left = Math.max(left, 4) + 'px';
    tip.style.top = (over > 0 ? event.clientY - tip.offsetHeight - 12 : top) + 'px';
  });
  document.querySelectorAll('.key').forEach(function (key) {
    var toggle = function () {
      var out = key.classList.toggle('out');
      key.closest('svg').querySelectorAll('[data-series="' + key.dataset.key + '"]').forEach(function (group) {
        group.classList.toggle('off', out);
      });
    };
    key.setAttribute('tabindex', '0');
    key.setAttribute('role', 'button');
    key.addEventListener('click', toggle);
    key.addEventListener('keydown', function (event) {
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); toggle(); }
    });
  });
})();
