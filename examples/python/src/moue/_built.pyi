EIGEN: str
CXX: str
