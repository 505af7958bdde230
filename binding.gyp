# The CPU addon. Sources come from the folders, here and in CMakeLists.txt, so that the two cannot drift.
{
  "targets": [
    {
      "target_name": "octavo",
      "sources": [
        "<!@(node -p \"['native', 'kernels', 'kernels/reference', 'kernels/cpu'].flatMap((d) => require('fs').readdirSync(d).filter((f) => f.endsWith('.cc')).map((f) => d + '/' + f)).join(' ')\")"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_CPP_EXCEPTIONS",
        # A worker that is being terminated can take no exception any more.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
        "OCTAVO_VERSION=\"<!(node -p \"require('./package.json').version\")\""
      ],
      "cflags": ["-O3", "-ffp-contract=off", "-fno-fast-math", "-pthread", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "cflags!": ["-fno-exceptions", "-Wno-unused-parameter"],
      "cflags_cc": ["-std=c++17", "-fexceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "ldflags": ["-pthread"],
      "xcode_settings": {
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "GCC_OPTIMIZATION_LEVEL": "3",
        "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
        "MACOSX_DEPLOYMENT_TARGET": "11.0",
        "OTHER_CFLAGS": ["-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
      }
    }
  ]
}
