"""The page for the clinic: a Streamlit app on the runtime alone.

    cxcompress app                 # opens http://localhost:8501

`page` draws; `model_process` runs somebody's file and pictures in a process with limits;
`uploads` takes files apart; `answers` and `pictures` turn what a model found into rows and images.
Needs `pip install 'cxcompress[app]'`; neither TensorFlow nor Keras.
"""
